-- Answers of the gate, denials included, each under its caller's request id.
CREATE TABLE metering.usage_authorization (
    tenant_id uuid NOT NULL,
    authorization_id uuid NOT NULL,
    request_id text COLLATE "C" NOT NULL
        CONSTRAINT request_id_is_short CHECK (length(request_id) BETWEEN 1 AND 128),
    fingerprint bytea NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    feature text NOT NULL,
    state smallint NOT NULL CONSTRAINT authorization_state_is_known CHECK (state BETWEEN 1 AND 5),
    over_use smallint NOT NULL CONSTRAINT over_use_is_known CHECK (over_use BETWEEN 1 AND 4),
    -- What is set aside: [asset, scale, hold id, atoms, available] each.
    holds jsonb NOT NULL,
    -- What it sets aside of tiers: [item, price, period start, quantity, atoms] each.
    reserved jsonb NOT NULL,
    reasons jsonb CONSTRAINT only_a_denial_has_reasons CHECK ((reasons IS NOT NULL) = (state = 5)),
    create_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, authorization_id)
)
--;
CREATE UNIQUE INDEX usage_authorization_by_request
    ON metering.usage_authorization (tenant_id, request_id)
--;
CREATE INDEX usage_authorization_open
    ON metering.usage_authorization (tenant_id, customer_id, expire_time)
    WHERE state = 1 AND reserved <> '[]'
--;
CREATE INDEX usage_authorization_by_expiry
    ON metering.usage_authorization (expire_time) WHERE state = 1
--;
-- Tenants with open authorizations whose time was over by an instant.
CREATE FUNCTION metering.list_tenants_with_overdue(instant timestamptz, count_max integer)
RETURNS TABLE (tenant_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = metering, pg_temp AS $$
    SELECT DISTINCT overdue.tenant_id
      FROM (SELECT a.tenant_id
              FROM usage_authorization AS a
             WHERE a.state = 1 AND a.expire_time <= instant
             ORDER BY a.expire_time
             LIMIT count_max) AS overdue
$$
