-- Days of events that were written to files, and may leave the database.
CREATE TABLE metering.event_archive (
    tenant_id uuid NOT NULL,
    day date NOT NULL,
    path text NOT NULL,
    event_count bigint NOT NULL CONSTRAINT events_are_counted CHECK (event_count >= 1),
    octets bigint NOT NULL,
    sha256 bytea NOT NULL CONSTRAINT sha256_is_whole CHECK (length(sha256) = 32),
    create_time timestamptz NOT NULL,
    -- A restored day stays in the database until then.
    keep_until date,
    PRIMARY KEY (tenant_id, day)
)
--;
-- The days before another that have a partition, oldest first.
CREATE FUNCTION metering.list_event_days(before date) RETURNS TABLE (day date)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = metering, pg_temp AS $$
    SELECT d.day
      FROM (SELECT to_date(substring(c.relname FROM 'event_([0-9]{8})'), 'YYYYMMDD') AS day
              FROM pg_catalog.pg_inherits AS i
              JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'metering.event'::regclass
               AND c.relname ~ '^event_[0-9]{8}$') AS d
     WHERE d.day < before
     ORDER BY d.day
$$
--;
-- The tenants with events of a day: one step of the key's index for each.
CREATE FUNCTION metering.list_tenants_of_day(day date) RETURNS TABLE (tenant_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = metering, pg_temp AS $$
    WITH RECURSIVE found AS (
        (SELECT e.tenant_id FROM event AS e
          WHERE e.receipt_id >= receipt_bound(day) AND e.receipt_id < receipt_bound(day + 1)
          ORDER BY e.tenant_id LIMIT 1)
        UNION ALL
        SELECT n.tenant_id
          FROM found AS f
          CROSS JOIN LATERAL
               (SELECT e.tenant_id FROM event AS e
                 WHERE e.receipt_id >= receipt_bound(day) AND e.receipt_id < receipt_bound(day + 1)
                   AND e.tenant_id > f.tenant_id
                 ORDER BY e.tenant_id LIMIT 1) AS n)
    SELECT f.tenant_id FROM found AS f
$$
--;
-- Whether every event of a day is in a file, and nobody wants the day to stay.
CREATE FUNCTION metering.is_day_archived(day date) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = metering, pg_temp AS $$
    SELECT NOT EXISTS (
        SELECT 1 FROM list_tenants_of_day($1) AS t
         WHERE NOT EXISTS (
            SELECT 1 FROM event_archive AS a
             WHERE a.tenant_id = t.tenant_id AND a.day = $1
               AND (a.keep_until IS NULL OR a.keep_until < (now() AT TIME ZONE 'UTC')::date)
               -- A day that was restored may be there in part.
               AND a.event_count >= (
                    SELECT count(*) FROM event AS e
                     WHERE e.tenant_id = t.tenant_id AND e.receipt_id >= receipt_bound($1)
                       AND e.receipt_id < receipt_bound($1 + 1))))
$$
--;
-- Drops a day whose events are all in files; false where they are not, or it is too young.
CREATE FUNCTION metering.drop_event_partition(day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = metering, pg_temp AS $$
DECLARE
    partition text := 'event_' || to_char(day, 'YYYYMMDD');
BEGIN
    IF day >= (now() AT TIME ZONE 'UTC')::date - 36 OR to_regclass('metering.' || partition) IS NULL
    THEN
        RETURN false;
    END IF;
    -- Nothing may be added between the look and the drop.
    EXECUTE format('LOCK TABLE metering.%I IN ACCESS EXCLUSIVE MODE', partition);
    IF NOT is_day_archived(day) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE metering.%I', partition);
    RETURN true;
END $$
--;
-- Makes the partition of one day that has none, for events that are restored.
CREATE FUNCTION metering.make_event_partition(day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = metering, pg_temp AS $$
DECLARE
    partition text := 'event_' || to_char(day, 'YYYYMMDD');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('metering.make_event_partitions'));
    IF to_regclass('metering.' || partition) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format(
        'CREATE TABLE metering.%I PARTITION OF metering.event FOR VALUES FROM (%L) TO (%L)',
        partition, receipt_bound(day), receipt_bound(day + 1));
    EXECUTE format('ALTER TABLE metering.%I ENABLE ROW LEVEL SECURITY', partition);
    EXECUTE format('ALTER TABLE metering.%I FORCE ROW LEVEL SECURITY', partition);
    EXECUTE format(
        'CREATE POLICY own_tenant_only ON metering.%I'
        ' USING (tenant_id = current_setting(''tollgate.tenant_id'')::uuid)'
        ' WITH CHECK (tenant_id = current_setting(''tollgate.tenant_id'')::uuid)', partition);
END $$
