-- What a tenant wants done with events that cannot be taken: 1 refuse, 2 park.
CREATE TABLE metering.ingest_policy (
    tenant_id uuid NOT NULL PRIMARY KEY,
    unmatched smallint NOT NULL CONSTRAINT unmatched_is_known CHECK (unmatched IN (1, 2)),
    unusable smallint NOT NULL CONSTRAINT unusable_is_known CHECK (unusable IN (1, 2)),
    unpriced smallint NOT NULL CONSTRAINT unpriced_is_known CHECK (unpriced IN (1, 2))
)
--;
-- Events that wait for a meter or a price. Their ids are taken: event_receipt names their receipts.
CREATE TABLE metering.parked_event (
    tenant_id uuid NOT NULL,
    receipt_id uuid NOT NULL,
    event_key uuid NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    subject text NOT NULL,
    event_time timestamptz NOT NULL,
    receive_time timestamptz NOT NULL,
    properties jsonb NOT NULL,
    authorization_id uuid,
    refusal jsonb NOT NULL,
    -- The version of the tenant's meters that could not take it.
    meter_version integer NOT NULL,
    attempts integer NOT NULL CONSTRAINT attempts_are_counted CHECK (attempts >= 0),
    next_attempt_time timestamptz NOT NULL,
    -- Given up by a person: kept, never tried again.
    discard_reason text,
    discard_time timestamptz,
    CONSTRAINT what_is_discarded_has_a_reason
        CHECK ((discard_reason IS NULL) = (discard_time IS NULL)),
    PRIMARY KEY (tenant_id, receipt_id)
)
--;
CREATE INDEX parked_event_by_key
    ON metering.parked_event (tenant_id, event_key) WHERE discard_time IS NULL
--;
CREATE INDEX parked_event_due
    ON metering.parked_event (next_attempt_time) WHERE discard_time IS NULL
--;
-- Tenants with parked events to be tried: their time has come, or there are other meters since.
CREATE FUNCTION metering.list_tenants_with_parked(count_max integer) RETURNS TABLE (tenant_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = metering, pg_temp AS $$
    SELECT DISTINCT due.tenant_id
      FROM (SELECT p.tenant_id
              FROM parked_event AS p
              LEFT JOIN meter_set AS s ON s.tenant_id = p.tenant_id
             WHERE p.discard_time IS NULL
               AND (p.next_attempt_time <= clock_timestamp()
                    OR p.meter_version < coalesce(s.version, 0))
             LIMIT count_max) AS due
$$
