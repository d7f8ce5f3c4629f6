-- Runs that add usage of the past, or replace it.
CREATE TABLE metering.backfill (
    tenant_id uuid NOT NULL,
    backfill_id uuid NOT NULL,
    mode smallint NOT NULL CONSTRAINT backfill_mode_is_known CHECK (mode IN (1, 2)),
    start_time timestamptz NOT NULL,
    end_time timestamptz NOT NULL,
    customer_ids text[] NOT NULL
        CONSTRAINT customers_are_named CHECK (cardinality(customer_ids) BETWEEN 1 AND 1000),
    reason text NOT NULL,
    caller text NOT NULL,
    state smallint NOT NULL CONSTRAINT backfill_state_is_known CHECK (state BETWEEN 1 AND 5),
    -- Whether the events that were there have been amended or deprecated.
    has_replaced boolean NOT NULL,
    create_time timestamptz NOT NULL,
    CONSTRAINT a_backfill_ends_after_it_starts CHECK (end_time > start_time),
    PRIMARY KEY (tenant_id, backfill_id)
)
--;
CREATE INDEX backfill_under_way ON metering.backfill (backfill_id) WHERE state IN (2, 4)
--;
-- The events that a backfill was fed with, and what became of them.
CREATE TABLE metering.backfill_event (
    tenant_id uuid NOT NULL,
    backfill_id uuid NOT NULL,
    event_key uuid NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    event_id text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    subject text NOT NULL,
    event_time timestamptz NOT NULL,
    properties jsonb NOT NULL,
    node text NOT NULL,
    -- 1 waiting, 2 being added, 3 added, 4 amended, 5 unchanged, 6 refused.
    state smallint NOT NULL CONSTRAINT backfill_event_state_is_known CHECK (state BETWEEN 1 AND 6),
    refusal jsonb,
    PRIMARY KEY (tenant_id, backfill_id, event_key)
)
--;
CREATE INDEX backfill_event_in_order
    ON metering.backfill_event (tenant_id, backfill_id, state, position)
--;
-- Backfills that are being applied or taken back, whoever their tenant is.
CREATE FUNCTION metering.list_backfills_under_way(count_max integer)
RETURNS TABLE (tenant_id uuid, backfill_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = metering, pg_temp AS $$
    SELECT b.tenant_id, b.backfill_id FROM backfill AS b
     WHERE b.state IN (2, 4) ORDER BY b.backfill_id LIMIT count_max
$$
