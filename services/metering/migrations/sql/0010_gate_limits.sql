-- Whose budgets usage counts for, and whether an event leaves its authorization open.
ALTER TABLE metering.event
    ADD COLUMN node text NOT NULL DEFAULT '',
    ADD COLUMN continues boolean NOT NULL DEFAULT false
--;
ALTER TABLE metering.parked_event
    ADD COLUMN node text NOT NULL DEFAULT '',
    ADD COLUMN continues boolean NOT NULL DEFAULT false
--;
-- What else was answered: node, what was granted, how limits stood.
ALTER TABLE metering.usage_authorization
    ADD COLUMN details jsonb NOT NULL DEFAULT '{}',
    -- Usage that is set aside of limits: [meter, quantity] each.
    ADD COLUMN measured jsonb NOT NULL DEFAULT '[]'
--;
CREATE INDEX usage_authorization_limited ON metering.usage_authorization (tenant_id, customer_id)
    WHERE state = 1 AND measured <> '[]'
--;
-- Rises with every answer that sets something of a customer's limits aside: two processes that
-- decide at once on the same figures cannot both keep what they decided.
CREATE TABLE metering.limit_guard (
    tenant_id uuid NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL CONSTRAINT versions_rise CHECK (version >= 1),
    PRIMARY KEY (tenant_id, customer_id)
) WITH (fillfactor = 50)
--;
-- Windows that open with the first use after the last one closed.
CREATE TABLE metering.limit_window (
    tenant_id uuid NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    feature text COLLATE "C" NOT NULL,
    seconds bigint NOT NULL CONSTRAINT a_window_has_a_length CHECK (seconds > 0),
    open_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, customer_id, feature, seconds)
) WITH (fillfactor = 50)
--;
-- What limits of a batch are decided by, in one trip and one snapshot: the guards of customers
-- (kind 0), usage by hour in the windows asked for (kind 1), what open authorizations set aside by
-- meter (kind 2). Row security holds in it.
CREATE FUNCTION metering.read_limits(
    p_tenant uuid, p_now timestamptz, p_customers text[],
    p_sum_customers text[], p_sum_meters text[], p_starts timestamptz[], p_ends timestamptz[]
) RETURNS TABLE (
    kind integer, "position" bigint, customer_id text, meter text, version bigint, total text,
    highest text
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('tollgate.tenant_id', p_tenant::text, true);
    RETURN QUERY
    SELECT 0, NULL::bigint, g.customer_id, NULL, g.version, NULL, NULL
      FROM unnest(p_customers) AS c (customer_id)
     CROSS JOIN LATERAL (
         SELECT u.customer_id, u.version FROM limit_guard AS u
          WHERE u.tenant_id = p_tenant AND u.customer_id = c.customer_id
         OFFSET 0
     ) AS g
    UNION ALL
    SELECT 1, k."position", NULL, NULL, NULL, h.total::text, h.highest::text
      FROM unnest(p_sum_customers, p_sum_meters, p_starts, p_ends)
           WITH ORDINALITY AS k (customer_id, meter, starts, ends, "position")
     CROSS JOIN LATERAL (
         SELECT coalesce(sum(u.quantity), 0) AS total, coalesce(max(u.quantity), 0) AS highest
           FROM usage_hour AS u
          WHERE u.tenant_id = p_tenant AND u.customer_id = k.customer_id AND u.meter = k.meter
            AND u.hour >= k.starts AND u.hour < k.ends AND u.event_count > 0
     ) AS h
    UNION ALL
    SELECT 2, NULL, c.customer_id, r.part ->> 0, NULL, sum((r.part ->> 1)::numeric)::text, NULL
      FROM unnest(p_customers) AS c (customer_id)
     CROSS JOIN LATERAL (
         SELECT u.measured, u.expire_time FROM usage_authorization AS u
          WHERE u.tenant_id = p_tenant AND u.customer_id = c.customer_id
            AND u.state = 1 AND u.measured <> '[]'
         OFFSET 0
     ) AS a
     CROSS JOIN LATERAL jsonb_array_elements(a.measured) AS r (part)
     WHERE a.expire_time > p_now
     GROUP BY c.customer_id, r.part ->> 0;
END $$
--;
-- Take the guards of customers on from the versions that were read, or fail where another was
-- faster; and open windows.
CREATE FUNCTION metering.pass_guards(
    p_tenant uuid, p_customers text[], p_versions bigint[],
    p_window_customers text[], p_window_features text[], p_window_seconds bigint[],
    p_window_times timestamptz[]
) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    late bigint;
BEGIN
    WITH passed AS (
        INSERT INTO limit_guard AS g (tenant_id, customer_id, version)
        SELECT p_tenant, i.customer_id, 1
          FROM unnest(p_customers) AS i (customer_id) ORDER BY i.customer_id
        ON CONFLICT (tenant_id, customer_id) DO UPDATE SET version = g.version + 1
        RETURNING g.customer_id, g.version
    )
    SELECT count(*) INTO late
      FROM passed AS p
      JOIN unnest(p_customers, p_versions) AS i (customer_id, version) USING (customer_id)
     WHERE p.version <> i.version + 1;
    IF late > 0 THEN
        RAISE EXCEPTION 'limits were decided on figures of before'
            USING ERRCODE = 'serialization_failure';
    END IF;
    INSERT INTO limit_window (tenant_id, customer_id, feature, seconds, open_time)
    SELECT p_tenant, i.* FROM unnest(p_window_customers, p_window_features, p_window_seconds,
                                     p_window_times) AS i
    ON CONFLICT (tenant_id, customer_id, feature, seconds)
    DO UPDATE SET open_time = excluded.open_time;
END $$
--;
-- Keep answers of the gate in one trip and one commit, where limits are guarded together with them;
-- answers the request ids that nobody had answered before.
CREATE FUNCTION metering.keep_answers(
    p_tenant uuid, p_ids uuid[], p_requests text[], p_fingerprints bytea[], p_customers text[],
    p_features text[], p_states smallint[], p_over_uses smallint[], p_holds jsonb[],
    p_reserved jsonb[], p_reasons jsonb[], p_created timestamptz[], p_expires timestamptz[],
    p_details jsonb[], p_measured jsonb[],
    p_guard_customers text[], p_guard_versions bigint[],
    p_window_customers text[], p_window_features text[], p_window_seconds bigint[],
    p_window_times timestamptz[]
) RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('tollgate.tenant_id', p_tenant::text, true);
    IF cardinality(p_guard_customers) > 0 THEN
        PERFORM metering.pass_guards(p_tenant, p_guard_customers, p_guard_versions,
                                     p_window_customers, p_window_features, p_window_seconds,
                                     p_window_times);
    END IF;
    RETURN QUERY
    INSERT INTO usage_authorization (
        tenant_id, authorization_id, request_id, fingerprint, customer_id, feature, state,
        over_use, holds, reserved, reasons, create_time, expire_time, details, measured
    )
    SELECT p_tenant, n.*
      FROM unnest(p_ids, p_requests, p_fingerprints, p_customers, p_features, p_states,
                  p_over_uses, p_holds, p_reserved, p_reasons, p_created, p_expires, p_details,
                  p_measured) AS n
    ON CONFLICT (tenant_id, request_id) DO NOTHING
    RETURNING request_id;
END $$
