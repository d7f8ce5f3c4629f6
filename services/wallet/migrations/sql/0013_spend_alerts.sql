-- What a wallet's use of an asset, or the expiry of its grants, is to be told of.
CREATE TABLE wallet.spend_alerts (
    tenant_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    asset text COLLATE "C" NOT NULL,
    -- 1 days left, 2 burn rate in atoms a day, 3 days until a grant expires.
    kind smallint NOT NULL CONSTRAINT spend_alert_kind_is_known CHECK (kind BETWEEN 1 AND 3),
    threshold numeric NOT NULL CONSTRAINT threshold_is_above_zero CHECK (threshold > 0),
    -- Over how long the burn rate is measured.
    window_hours integer NOT NULL CONSTRAINT a_window_lasts CHECK (window_hours > 0),
    armed boolean NOT NULL,
    PRIMARY KEY (tenant_id, wallet_id, asset, kind)
)
--;
-- What was used of an asset until a time, counted on from the sample before.
CREATE TABLE wallet.burn_samples (
    tenant_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    asset text COLLATE "C" NOT NULL,
    sample_time timestamptz NOT NULL,
    sequence bigint NOT NULL,
    used numeric NOT NULL,
    PRIMARY KEY (tenant_id, wallet_id, asset, sample_time)
)
--;
-- Grants whose coming expiry was told.
CREATE TABLE wallet.expiry_notices (
    tenant_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    grant_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, wallet_id, grant_id)
)
--;
-- Wallets with such alerts, of all tenants, by id, those after one: ids alone.
CREATE FUNCTION wallet.list_alerted_wallets(p_tenant text, p_wallet text, p_count integer)
RETURNS TABLE (tenant_id text, wallet_id text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
    SELECT DISTINCT a.tenant_id::text, a.wallet_id::text FROM spend_alerts AS a
     WHERE (a.tenant_id, a.wallet_id) > (p_tenant::uuid, p_wallet::uuid)
     ORDER BY 1, 2 LIMIT p_count
$$
