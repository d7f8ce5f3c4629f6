-- The stream's last entry where `relay` may publish now (it holds the lease, or nobody does), else
-- null.
CREATE FUNCTION {schema}.outbox_lease(relay uuid, lease_seconds integer) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    UPDATE outbox_relay
       SET holder = relay, lease_end_time = clock_timestamp() + make_interval(secs => lease_seconds)
     WHERE holder IS NOT DISTINCT FROM relay OR lease_end_time < clock_timestamp()
    RETURNING last_entry
$$
--;
CREATE FUNCTION {schema}.outbox_release(relay uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    UPDATE outbox_relay SET holder = NULL, lease_end_time = '-infinity' WHERE holder = relay
$$
--;
CREATE FUNCTION {schema}.outbox_pending(count_max integer)
RETURNS TABLE (
    tenant_id uuid, message_id uuid, kind text, payload bytea, trace text, create_time timestamptz
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    SELECT o.tenant_id, o.message_id, o.kind, o.payload, o.trace, o.create_time
      FROM outbox AS o
     WHERE o.published_time IS NULL
     ORDER BY o.sequence
     LIMIT count_max
$$
--;
-- Marks what is published, unless another relay has taken over: that one may know that the stream
-- was emptied in between, and its judgement stands.
CREATE FUNCTION {schema}.outbox_mark_published(relay uuid, message_ids uuid[], entry text)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
BEGIN
    UPDATE outbox_relay SET last_entry = entry WHERE holder = relay;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE outbox
       SET published_time = clock_timestamp()
     WHERE published_time IS NULL AND message_id = ANY (message_ids);
    RETURN true;
END $$
--;
-- Makes every message that is still kept unpublished again, for whatever stream there is now;
-- returns how many.
CREATE FUNCTION {schema}.outbox_reopen(relay uuid) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    reopened bigint;
BEGIN
    UPDATE outbox_relay SET last_entry = '0-0' WHERE holder = relay;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    UPDATE outbox SET published_time = NULL WHERE published_time IS NOT NULL;
    GET DIAGNOSTICS reopened = ROW_COUNT;
    RETURN reopened;
END $$
--;
-- Takes messages whose next attempt is due; another worker sees them again after the lease.
CREATE FUNCTION {schema}.inbox_due(count_max integer, lease_seconds integer)
RETURNS TABLE (
    tenant_id uuid, message_id uuid, source text, kind text, payload bytea, trace text,
    message_create_time timestamptz
)
LANGUAGE sql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    UPDATE inbox AS i
       SET next_attempt_time = clock_timestamp() + make_interval(secs => lease_seconds)
      FROM (
          SELECT d.tenant_id, d.message_id FROM inbox AS d
           WHERE d.state = 'RETRYING' AND d.next_attempt_time <= clock_timestamp()
           ORDER BY d.next_attempt_time
           LIMIT count_max
           FOR UPDATE SKIP LOCKED
      ) AS due
     WHERE i.tenant_id = due.tenant_id AND i.message_id = due.message_id
    RETURNING i.tenant_id, i.message_id, i.source, i.kind, i.payload, i.trace,
              i.message_create_time
$$
--;
-- Gives parked messages of some kinds another round of attempts; returns how many.
CREATE FUNCTION {schema}.inbox_unpark(kinds text[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
DECLARE
    unparked bigint;
BEGIN
    UPDATE inbox
       SET state = 'RETRYING', attempts = 0, next_attempt_time = clock_timestamp()
     WHERE state = 'PARKED' AND kind = ANY (kinds);
    GET DIAGNOSTICS unparked = ROW_COUNT;
    RETURN unparked;
END $$
--;
-- Removes what nobody can ask for any more. Parked messages stay until somebody decides.
CREATE FUNCTION {schema}.chassis_sweep(
    outbox_hours integer, inbox_hours integer, request_hours integer
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    DELETE FROM outbox
     WHERE published_time IS NOT NULL
       AND create_time < clock_timestamp() - make_interval(hours => outbox_hours);
    DELETE FROM inbox
     WHERE state = 'DONE'
       AND update_time < clock_timestamp() - make_interval(hours => inbox_hours);
    DELETE FROM request
     WHERE create_time < clock_timestamp() - make_interval(hours => request_hours);
$$
