-- What few grants have: a rollover, the grant they were rolled over from, the time of their void.
CREATE TABLE wallet.grant_terms (
    tenant_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    grant_id uuid NOT NULL,
    -- What share of the rest goes on when the grant expires; null: nothing does.
    rollover_fraction numeric
        CONSTRAINT a_share_is_of_one CHECK (rollover_fraction > 0 AND rollover_fraction <= 1),
    rollover_cap numeric(38,0) CONSTRAINT a_cap_is_above_zero CHECK (rollover_cap > 0),
    -- How long the new grant lasts, counted from the old one's expiry; null: for ever.
    rollover_seconds bigint CONSTRAINT a_rollover_lasts CHECK (rollover_seconds > 0),
    rolled_from uuid,
    void_time timestamptz,
    PRIMARY KEY (tenant_id, wallet_id, grant_id)
)
--;
-- How much of a transfer was given back, and by which operation.
CREATE TABLE wallet.reversals (
    tenant_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    sequence bigint NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    atoms numeric(38,0) NOT NULL CONSTRAINT something_is_given_back CHECK (atoms > 0),
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, wallet_id, sequence, request_id)
)
--;
-- Who changed what by hand, why, and who approved it.
CREATE TABLE wallet.adjustments (
    tenant_id uuid NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    kind smallint NOT NULL CONSTRAINT adjustment_kind_is_known CHECK (kind BETWEEN 7 AND 11),
    wallet_id uuid NOT NULL,
    reason text NOT NULL,
    approver text NOT NULL,
    caller text NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, request_id)
)
--;
-- Until when a tenant's books are closed.
CREATE TABLE wallet.closed_periods (
    tenant_id uuid NOT NULL,
    through_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id)
)
--;
-- One unit of an asset is so many of another, from a time on. Rates are added, never changed.
CREATE TABLE wallet.exchange_rates (
    tenant_id uuid NOT NULL,
    from_asset text COLLATE "C" NOT NULL,
    to_asset text COLLATE "C" NOT NULL,
    effective_time timestamptz NOT NULL,
    rate numeric NOT NULL CONSTRAINT rate_is_above_zero CHECK (rate > 0),
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, from_asset, to_asset, effective_time),
    CONSTRAINT assets_differ CHECK (from_asset <> to_asset)
)
--;
-- What the journal's days that were archived add up to, for each wallet, asset, kind of move and
-- pair of accounts.
CREATE TABLE wallet.journal_checkpoints (
    tenant_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    asset text COLLATE "C" NOT NULL,
    kind smallint NOT NULL,
    debit_account smallint NOT NULL,
    credit_account smallint NOT NULL,
    atoms numeric NOT NULL,
    -- The part that no grant backs.
    unbacked_atoms numeric NOT NULL,
    moves bigint NOT NULL,
    last_sequence bigint NOT NULL,
    last_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, wallet_id, asset, kind, debit_account, credit_account)
)
--;
-- The same for each grant.
CREATE TABLE wallet.grant_checkpoints (
    tenant_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    grant_id uuid NOT NULL,
    asset text COLLATE "C" NOT NULL,
    kind smallint NOT NULL,
    debit_account smallint NOT NULL,
    credit_account smallint NOT NULL,
    atoms numeric NOT NULL,
    PRIMARY KEY (tenant_id, wallet_id, grant_id, kind, debit_account, credit_account)
)
--;
CREATE TRIGGER reversals_stand_for_ever BEFORE UPDATE OR DELETE ON wallet.reversals
    FOR EACH ROW EXECUTE FUNCTION wallet.refuse_change()
--;
CREATE TRIGGER adjustments_stand_for_ever BEFORE UPDATE OR DELETE ON wallet.adjustments
    FOR EACH ROW EXECUTE FUNCTION wallet.refuse_change()
--;
CREATE TRIGGER rates_stand_for_ever BEFORE UPDATE OR DELETE ON wallet.exchange_rates
    FOR EACH ROW EXECUTE FUNCTION wallet.refuse_change()
--;
-- Single grants of a batch, open or not, and their history: what was lost of each other than by
-- use (expired, voided, corrected, rolled over), and, where the tenant has closed a period, when it
-- first paid for something. p_grants: rows of tenant, wallet, grant. Volatile: it sees what the
-- batch's locks waited for.
CREATE FUNCTION wallet.list_grant_details(p_grants text)
RETURNS TABLE (
    g_listed boolean, g_tenant text, g_wallet text, g_asset text, g_id text, g_kind smallint,
    g_amount text, g_remaining text, g_held text, g_priority smallint, g_breadth smallint,
    g_restrictions text, g_effective timestamptz, g_expire timestamptz, g_cost text,
    g_create_time timestamptz, g_dormant boolean,
    cost_asset text, source text, void_time timestamptz, lost text, first_use timestamptz,
    fraction text, cap text, seconds bigint, rolled_from text
)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = wallet, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
    SELECT false, g.tenant_id::text, g.wallet_id::text, g.asset, g.grant_id::text, g.kind,
           g.amount::text, g.remaining::text, g.held::text, g.priority, g.breadth,
           CASE WHEN g.breadth < 3 THEN
               json_build_array(g.meters, g.features, g.products)::text END,
           g.effective_time, g.expire_time, g.cost_basis::text, g.create_time, g.dormant,
           g.cost_asset, g.source, n.void_time,
           (coalesce(l.atoms, 0) + coalesce(c.lost, 0))::text,
           CASE WHEN c.used > 0 THEN '-infinity' ELSE l.first_use END,
           n.rollover_fraction::text, n.rollover_cap::text, n.rollover_seconds,
           n.rolled_from::text
      FROM fields(p_grants) AS f
     CROSS JOIN LATERAL (
         SELECT u.* FROM grants AS u
          WHERE u.tenant_id = f[1]::uuid AND u.wallet_id = f[2]::uuid AND u.grant_id = f[3]::uuid
         OFFSET 0
     ) AS g
      LEFT JOIN LATERAL (
         SELECT u.* FROM grant_terms AS u
          WHERE u.tenant_id = g.tenant_id AND u.wallet_id = g.wallet_id
            AND u.grant_id = g.grant_id
         OFFSET 0
     ) AS n ON true
     CROSS JOIN LATERAL (
         SELECT sum(s.atoms) FILTER (WHERE t.debit_account = 1 AND t.kind IN (6, 9, 11, 13))
                    AS atoms,
                min(t.create_time) FILTER (WHERE t.kind IN (2, 4, 7, 12)
                    AND t.credit_account <> 1) AS first_use
           FROM transfers AS t
          CROSS JOIN LATERAL unnest(t.grant_ids, t.grant_atoms) AS s (grant_id, atoms)
          WHERE t.tenant_id = g.tenant_id AND t.wallet_id = g.wallet_id
            AND t.grant_ids @> ARRAY[g.grant_id] AND s.grant_id = g.grant_id
     ) AS l
     CROSS JOIN LATERAL (
         SELECT sum(u.atoms) FILTER (WHERE u.debit_account = 1 AND u.kind IN (6, 9, 11, 13))
                    AS lost,
                sum(u.atoms) FILTER (WHERE u.kind IN (2, 4, 7, 12) AND u.credit_account <> 1)
                    AS used
           FROM grant_checkpoints AS u
          WHERE u.tenant_id = g.tenant_id AND u.wallet_id = g.wallet_id
            AND u.grant_id = g.grant_id
     ) AS c
$$
--;
-- What expiring grants of some wallets roll over. p_wallets: pairs of tenant and wallet.
CREATE FUNCTION wallet.list_rollovers(p_wallets text)
RETURNS TABLE (
    tenant_id text, wallet_id text, grant_id text, fraction text, cap text, seconds bigint,
    cost_asset text, source text
)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
    SELECT n.tenant_id::text, n.wallet_id::text, n.grant_id::text, n.rollover_fraction::text,
           n.rollover_cap::text, n.rollover_seconds, g.cost_asset, g.source
      FROM id_pairs(p_wallets) AS i
      JOIN grant_terms AS n ON n.tenant_id = i.first_id::uuid AND n.wallet_id = i.second_id::uuid
      JOIN grants AS g ON g.tenant_id = n.tenant_id AND g.wallet_id = n.wallet_id
                      AND g.grant_id = n.grant_id
     WHERE n.rollover_fraction IS NOT NULL
$$
--;
-- How much of some transfers was given back. p_transfers: rows of tenant, wallet, number.
CREATE FUNCTION wallet.list_reversed(p_transfers text)
RETURNS TABLE (tenant_id text, wallet_id text, sequence bigint, atoms text)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
    SELECT f[1], f[2], f[3]::bigint, coalesce(sum(r.atoms), 0)::text
      FROM fields(p_transfers) AS f
      LEFT JOIN reversals AS r ON r.tenant_id = f[1]::uuid AND r.wallet_id = f[2]::uuid
                              AND r.sequence = f[3]::bigint
     GROUP BY f[1], f[2], f[3]
$$
--;
-- The rates in force. p_pairs: rows of tenant, asset, other asset, instant (1D: now).
CREATE FUNCTION wallet.list_rates(p_pairs text)
RETURNS TABLE (
    tenant_id text, from_asset text, to_asset text, effective_time timestamptz, rate text
)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
    SELECT f[1], f[2], f[3], r.effective_time, r.rate::text
      FROM fields(p_pairs) AS f
     CROSS JOIN LATERAL (
         SELECT u.effective_time, u.rate FROM exchange_rates AS u
          WHERE u.tenant_id = f[1]::uuid AND u.from_asset = f[2] AND u.to_asset = f[3]
            AND u.effective_time <= coalesce(f[4]::timestamptz, clock_timestamp())
          ORDER BY u.effective_time DESC LIMIT 1
     ) AS r
$$
--;
-- Until when some tenants' books are closed.
CREATE FUNCTION wallet.list_closed_periods(p_tenants text[])
RETURNS TABLE (tenant_id text, through_time timestamptz)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
    SELECT c.tenant_id::text, c.through_time FROM unnest(p_tenants) AS i (tenant)
      JOIN closed_periods AS c ON c.tenant_id = i.tenant::uuid
$$
--;
-- What a batch did that is written beside record_batch's sets, each a text as there: terms of new
-- grants, voids, new expiry times, reversals, and who did it and why.
CREATE FUNCTION wallet.record_details(
    p_terms text, p_voids text, p_expiries text, p_expiry_count integer, p_reversals text,
    p_adjustments text
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
DECLARE
    written bigint;
BEGIN
    INSERT INTO grant_terms (tenant_id, wallet_id, grant_id, rollover_fraction, rollover_cap,
                             rollover_seconds, rolled_from)
    SELECT f[1]::uuid, f[2]::uuid, f[3]::uuid, f[4]::numeric, f[5]::numeric, f[6]::bigint,
           f[7]::uuid
      FROM fields(p_terms) AS f WHERE p_terms <> '';
    INSERT INTO grant_terms AS g (tenant_id, wallet_id, grant_id, void_time)
    SELECT f[1]::uuid, f[2]::uuid, f[3]::uuid, f[4]::timestamptz
      FROM fields(p_voids) AS f WHERE p_voids <> ''
        ON CONFLICT (tenant_id, wallet_id, grant_id)
        DO UPDATE SET void_time = excluded.void_time WHERE g.void_time IS NULL;
    UPDATE grants AS g SET expire_time = f[4]::timestamptz
      FROM fields(p_expiries) AS f
     WHERE p_expiries <> '' AND g.tenant_id = f[1]::uuid AND g.wallet_id = f[2]::uuid
       AND g.grant_id = f[3]::uuid;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> p_expiry_count THEN
        RAISE EXCEPTION 'a row moved without its lock: a grant';
    END IF;
    INSERT INTO reversals (tenant_id, wallet_id, sequence, request_id, atoms, create_time)
    SELECT f[1]::uuid, f[2]::uuid, f[3]::bigint, f[4], f[5]::numeric, f[6]::timestamptz
      FROM fields(p_reversals) AS f WHERE p_reversals <> '';
    INSERT INTO adjustments (tenant_id, request_id, kind, wallet_id, reason, approver, caller,
                             create_time)
    SELECT f[1]::uuid, f[2], f[3]::smallint, f[4]::uuid, f[5], f[6], f[7], f[8]::timestamptz
      FROM fields(p_adjustments) AS f WHERE p_adjustments <> '';
END $$
