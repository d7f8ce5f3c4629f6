-- One row per customer with usage. Its lock orders everything that is decided for the customer.
CREATE TABLE metering.customer (
    tenant_id uuid NOT NULL,
    customer_id text COLLATE "C" NOT NULL
        CONSTRAINT customer_id_is_short CHECK (length(customer_id) BETWEEN 1 AND 128),
    sequence bigint NOT NULL CONSTRAINT sequence_rises CHECK (sequence >= 0),
    usage_count integer NOT NULL CONSTRAINT usages_are_counted CHECK (usage_count >= 0),
    PRIMARY KEY (tenant_id, customer_id)
) WITH (fillfactor = 70)
--;
-- Which event ids were received, whatever their time: narrow, so that its index stays in memory.
-- The key is the event id where that is a UUID, else a hash of it.
CREATE TABLE metering.event_receipt (
    tenant_id uuid NOT NULL,
    event_key uuid NOT NULL,
    receipt_id uuid NOT NULL,
    PRIMARY KEY (tenant_id, event_key)
)
--;
-- Partitioned by the day of receipt, which the receipt id (UUIDv7) begins with.
CREATE TABLE metering.event (
    tenant_id uuid NOT NULL,
    receipt_id uuid NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    subject text NOT NULL,
    event_time timestamptz NOT NULL,
    receive_time timestamptz NOT NULL,
    sequence bigint NOT NULL,
    meter_version integer NOT NULL,
    properties jsonb NOT NULL,
    authorization_id uuid,
    state smallint NOT NULL CONSTRAINT event_state_is_known CHECK (state IN (1, 2)),
    -- What it was counted for: [usage number, quantity, atoms charged, shortfall in atoms] each.
    lines jsonb NOT NULL,
    refusal jsonb CONSTRAINT only_a_rejected_event_has_a_refusal
        CHECK ((refusal IS NOT NULL) = (state = 2)),
    PRIMARY KEY (tenant_id, receipt_id)
) PARTITION BY RANGE (receipt_id)
--;
CREATE INDEX event_by_customer ON metering.event (tenant_id, customer_id, event_time)
--;
CREATE TABLE metering.event_unforeseen PARTITION OF metering.event DEFAULT
--;
CREATE FUNCTION metering.receipt_bound(day date) RETURNS uuid
LANGUAGE sql IMMUTABLE SET search_path = metering, pg_temp AS $$
    SELECT (lpad(to_hex(extract(epoch FROM day)::bigint * 1000), 12, '0') || repeat('0', 20))::uuid
$$
--;
-- Makes the partitions of today and of the days to come. A day whose rows already went to the
-- partition for unforeseen days stays there.
CREATE FUNCTION metering.make_event_partitions(days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = metering, pg_temp AS $$
DECLARE
    day date;
    partition text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('metering.make_event_partitions'));
    FOR day IN
        SELECT (now() AT TIME ZONE 'UTC')::date + ahead FROM generate_series(0, days) AS ahead
    LOOP
        partition := 'event_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('metering.' || partition) IS NOT NULL;
        BEGIN
            EXECUTE format(
                'CREATE TABLE metering.%I PARTITION OF metering.event FOR VALUES FROM (%L) TO (%L)',
                partition, receipt_bound(day), receipt_bound(day + 1));
        EXCEPTION WHEN check_violation THEN
            CONTINUE;
        END;
        EXECUTE format('ALTER TABLE metering.%I ENABLE ROW LEVEL SECURITY', partition);
        EXECUTE format('ALTER TABLE metering.%I FORCE ROW LEVEL SECURITY', partition);
        EXECUTE format(
            'CREATE POLICY own_tenant_only ON metering.%I'
            ' USING (tenant_id = current_setting(''tollgate.tenant_id'')::uuid)'
            ' WITH CHECK (tenant_id = current_setting(''tollgate.tenant_id'')::uuid)', partition);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$
--;
SELECT metering.make_event_partitions(7)
--;
-- A batch whose charges are not settled yet. Its events are those whose receipt ids begin with
-- the same 108 bits.
CREATE TABLE metering.charge_batch (
    tenant_id uuid NOT NULL,
    batch_id uuid NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, batch_id)
)
--;
-- Batches that nobody settled within some seconds, whoever their tenant is.
CREATE FUNCTION metering.list_stale_batches(age_seconds double precision, count_max integer)
RETURNS TABLE (tenant_id uuid, batch_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = metering, pg_temp AS $$
    SELECT b.tenant_id, b.batch_id
      FROM charge_batch AS b
     WHERE b.create_time <= clock_timestamp() - make_interval(secs => age_seconds)
     ORDER BY b.create_time
     LIMIT count_max
$$
