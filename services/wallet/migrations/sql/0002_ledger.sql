-- The one figure that a debit is decided on. Guarded by the lock of its wallet's row.
CREATE TABLE wallet.balances (
    tenant_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    asset text COLLATE "C" NOT NULL,
    credited numeric(38,0) NOT NULL DEFAULT 0,
    debited numeric(38,0) NOT NULL DEFAULT 0,
    held numeric(38,0) NOT NULL DEFAULT 0,
    -- What the debt account has lent: debt, and what open holds took from the overdraft.
    overdrawn numeric(38,0) NOT NULL DEFAULT 0,
    -- The part of held that no grant backs.
    held_unbacked numeric(38,0) NOT NULL DEFAULT 0,
    -- Granted and not yet effective.
    dormant numeric(38,0) NOT NULL DEFAULT 0,
    -- How far below zero the wallet's policy lets it go.
    floor numeric(38,0) NOT NULL DEFAULT 0,
    -- How far below the floor captures were forced.
    forced numeric(38,0) NOT NULL DEFAULT 0,
    -- Open grants that pay for some purposes only. Above zero, all open grants are read.
    restricted_grants integer NOT NULL DEFAULT 0,
    -- When the next grant becomes effective or expires.
    next_change_time timestamptz NOT NULL DEFAULT 'infinity',
    -- Number of the wallet's last transfer of this asset; the wallet's own is the largest of them.
    sequence bigint NOT NULL DEFAULT 0,
    change_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, wallet_id, asset),
    CONSTRAINT figures_are_never_negative CHECK (
        credited >= 0 AND debited >= 0 AND held >= 0 AND overdrawn >= 0 AND held_unbacked >= 0
        AND dormant >= 0 AND floor >= 0 AND forced >= 0 AND restricted_grants >= 0
    ),
    CONSTRAINT available_is_never_negative CHECK (debited + held <= credited + floor + forced),
    CONSTRAINT funds_are_never_negative CHECK (debited + held <= credited + overdrawn),
    CONSTRAINT unbacked_is_part_of_held_and_of_overdrawn CHECK (
        held_unbacked <= held AND held_unbacked <= overdrawn
    )
) WITH (fillfactor = 50)
--;
CREATE INDEX balances_due ON wallet.balances (next_change_time)
    WHERE next_change_time < 'infinity'
--;
CREATE TABLE wallet.grants (
    tenant_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    grant_id uuid NOT NULL,
    asset text COLLATE "C" NOT NULL,
    kind smallint NOT NULL CONSTRAINT grant_kind_is_known CHECK (kind BETWEEN 1 AND 5),
    amount numeric(38,0) NOT NULL,
    remaining numeric(38,0) NOT NULL,
    held numeric(38,0) NOT NULL DEFAULT 0,
    priority smallint NOT NULL CONSTRAINT priority_is_0_to_100 CHECK (priority BETWEEN 0 AND 100),
    -- 3 less the number of lists that restrict it: narrower grants burn first.
    breadth smallint NOT NULL CONSTRAINT breadth_is_0_to_3 CHECK (breadth BETWEEN 0 AND 3),
    meters text[] NOT NULL,
    features text[] NOT NULL,
    products text[] NOT NULL,
    effective_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL DEFAULT 'infinity',
    cost_basis numeric NOT NULL CONSTRAINT cost_is_never_negative CHECK (cost_basis >= 0),
    cost_asset text COLLATE "C" NOT NULL,
    source text NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    open boolean NOT NULL,
    -- Not yet effective when the wallet was last touched.
    dormant boolean NOT NULL,
    PRIMARY KEY (tenant_id, wallet_id, grant_id),
    CONSTRAINT held_is_within_remaining_within_amount
        CHECK (0 <= held AND held <= remaining AND remaining <= amount AND amount > 0),
    CONSTRAINT an_open_grant_has_value CHECK (open = (remaining > 0)),
    CONSTRAINT a_dormant_grant_is_not_held CHECK (held = 0 OR NOT dormant)
) WITH (fillfactor = 70)
--;
CREATE INDEX grants_in_burn_order ON wallet.grants (
    tenant_id, wallet_id, asset, priority, breadth, expire_time, cost_basis, effective_time,
    create_time, grant_id
) WHERE open
--;
CREATE TABLE wallet.holds (
    tenant_id uuid NOT NULL,
    hold_id uuid NOT NULL,
    -- Empty for a tombstone: a void that came before its hold.
    customer_id text COLLATE "C" NOT NULL,
    -- Null: any of the customer's wallets.
    wallet_id uuid,
    asset text COLLATE "C" NOT NULL,
    amount numeric(38,0) NOT NULL,
    captured numeric(38,0) NOT NULL DEFAULT 0,
    state smallint NOT NULL CONSTRAINT hold_state_is_known CHECK (state IN (1, 2, 3, 4)),
    meter text NOT NULL,
    feature text NOT NULL,
    product text NOT NULL,
    reference text NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    end_time timestamptz,
    share_wallets uuid[] NOT NULL,
    share_atoms numeric(38,0)[] NOT NULL,
    share_sequences bigint[] NOT NULL,
    -- What is still set aside: wallet, grant (null: overdraft), atoms.
    pin_wallets uuid[] NOT NULL,
    pin_grants uuid[] NOT NULL,
    pin_atoms numeric(38,0)[] NOT NULL,
    PRIMARY KEY (tenant_id, hold_id),
    CONSTRAINT a_hold_that_ended_pins_nothing CHECK (state = 1 OR cardinality(pin_wallets) = 0),
    CONSTRAINT a_hold_that_ended_says_when CHECK ((state = 1) = (end_time IS NULL)),
    CONSTRAINT amounts_are_never_negative CHECK (amount >= 0 AND captured >= 0)
) WITH (fillfactor = 80)
--;
CREATE INDEX holds_open ON wallet.holds (expire_time) WHERE state = 1
--;
-- The journal: one immutable balanced move a row. Accounts: 1 wallet, 2 held, 3 debt of the row's
-- wallet; from 10 on, house accounts of the tenant and asset.
CREATE TABLE wallet.transfers (
    tenant_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    sequence bigint NOT NULL CONSTRAINT sequence_counts_from_one CHECK (sequence > 0),
    -- The database's clock, by which days are parted; create_time is the tenant's.
    record_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind smallint NOT NULL CONSTRAINT transfer_kind_is_known CHECK (kind BETWEEN 1 AND 7),
    asset text COLLATE "C" NOT NULL,
    atoms numeric(38,0) NOT NULL CONSTRAINT something_moves CHECK (atoms > 0),
    debit_account smallint NOT NULL,
    credit_account smallint NOT NULL,
    -- Key of the operation; empty for what time alone did.
    request_id text COLLATE "C" NOT NULL,
    -- How the move splits over grants; a null grant is overdraft.
    grant_ids uuid[] NOT NULL,
    grant_atoms numeric(38,0)[] NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, wallet_id, sequence, record_time),
    CONSTRAINT accounts_differ CHECK (debit_account <> credit_account),
    CONSTRAINT accounts_are_known CHECK (
        debit_account IN (1, 2, 3, 10, 11, 12, 13, 14, 15, 16, 17)
        AND credit_account IN (1, 2, 3, 10, 11, 12, 13, 14, 15, 16, 17)
    ),
    CONSTRAINT one_side_is_the_wallet CHECK (debit_account < 10 OR credit_account < 10),
    CONSTRAINT every_grant_has_its_part CHECK (cardinality(grant_ids) = cardinality(grant_atoms))
) PARTITION BY RANGE (record_time)
--;
-- What each operation key was answered, for ever.
CREATE TABLE wallet.operations (
    tenant_id uuid NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    kind smallint NOT NULL CONSTRAINT operation_kind_is_known CHECK (kind BETWEEN 1 AND 5),
    customer_id text COLLATE "C" NOT NULL,
    reference text NOT NULL,
    fingerprint bytea NOT NULL CONSTRAINT fingerprint_is_short CHECK (length(fingerprint) = 16),
    outcome text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, request_id)
)
--;
CREATE TABLE wallet.recharge_rules (
    tenant_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    asset text COLLATE "C" NOT NULL,
    threshold numeric(38,0) NOT NULL,
    mode smallint NOT NULL CONSTRAINT recharge_mode_is_known CHECK (mode IN (1, 2)),
    value numeric(38,0) NOT NULL CONSTRAINT something_is_bought CHECK (value > 0),
    unit_price numeric NOT NULL CONSTRAINT price_is_above_zero CHECK (unit_price > 0),
    price_asset text COLLATE "C" NOT NULL,
    price_scale smallint NOT NULL,
    monthly_cap numeric(38,0) NOT NULL CONSTRAINT there_is_a_cap CHECK (monthly_cap > 0),
    payment_method_id text NOT NULL,
    enabled boolean NOT NULL,
    -- The recharge in flight, if any, and how many there were.
    in_flight uuid,
    generation integer NOT NULL DEFAULT 0,
    -- Not before this may the next start; set when one failed.
    pause_until timestamptz NOT NULL DEFAULT 'epoch',
    -- What was bought in the month that `month` begins.
    month date NOT NULL DEFAULT '1970-01-01',
    month_bought numeric(38,0) NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, wallet_id, asset),
    CONSTRAINT bought_is_within_the_cap_or_was CHECK (month_bought >= 0)
) WITH (fillfactor = 70)
--;
CREATE TABLE wallet.recharges (
    tenant_id uuid NOT NULL,
    recharge_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    asset text COLLATE "C" NOT NULL,
    generation integer NOT NULL,
    atoms numeric(38,0) NOT NULL CONSTRAINT something_is_bought CHECK (atoms > 0),
    month date NOT NULL,
    state smallint NOT NULL CONSTRAINT recharge_state_is_known CHECK (state IN (1, 2, 3)),
    cause text NOT NULL DEFAULT '',
    create_time timestamptz NOT NULL,
    end_time timestamptz,
    PRIMARY KEY (tenant_id, recharge_id),
    CONSTRAINT an_ended_recharge_says_when CHECK ((state = 1) = (end_time IS NULL))
)
--;
CREATE UNIQUE INDEX one_recharge_in_flight ON wallet.recharges (tenant_id, wallet_id, asset)
    WHERE state = 1
--;
CREATE UNIQUE INDEX one_recharge_a_generation
    ON wallet.recharges (tenant_id, wallet_id, asset, generation)
--;
-- A threshold on available that tells when it is crossed, and again after it was left above.
CREATE TABLE wallet.balance_alerts (
    tenant_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    asset text COLLATE "C" NOT NULL,
    threshold numeric(38,0) NOT NULL,
    armed boolean NOT NULL,
    PRIMARY KEY (tenant_id, wallet_id, asset)
)
