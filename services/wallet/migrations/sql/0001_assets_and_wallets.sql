CREATE TABLE wallet.assets (
    tenant_id uuid NOT NULL,
    code text COLLATE "C" NOT NULL CONSTRAINT code_is_short CHECK (length(code) BETWEEN 1 AND 32),
    scale smallint NOT NULL CONSTRAINT scale_is_0_to_18 CHECK (scale BETWEEN 0 AND 18),
    kind smallint NOT NULL CONSTRAINT asset_kind_is_known CHECK (kind IN (1, 2)),
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, code)
)
--;
CREATE TABLE wallet.wallets (
    tenant_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    customer_id text COLLATE "C" NOT NULL
        CONSTRAINT customer_id_is_short CHECK (length(customer_id) BETWEEN 1 AND 128),
    name text NOT NULL,
    priority smallint NOT NULL CONSTRAINT priority_is_0_to_100 CHECK (priority BETWEEN 0 AND 100),
    meters text[] NOT NULL,
    features text[] NOT NULL,
    products text[] NOT NULL,
    shortfall_mode smallint NOT NULL
        CONSTRAINT shortfall_mode_is_known CHECK (shortfall_mode IN (1, 2, 3)),
    late_capture_allowed boolean NOT NULL,
    state smallint NOT NULL CONSTRAINT wallet_state_is_known CHECK (state IN (1, 2, 3)),
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, wallet_id)
)
--;
-- A customer's wallets in the order in which they pay.
CREATE UNIQUE INDEX wallets_of_a_customer
    ON wallet.wallets (tenant_id, customer_id, priority, wallet_id)
