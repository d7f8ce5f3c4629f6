-- All that a batch of the gate reads, in one trip: the version of the tenant's meters (kind 0),
-- running usage by key (kind 1), and what open authorizations reserve of tiers (kind 2). Row
-- security holds in it: it runs as its caller, for the tenant it is given.
CREATE FUNCTION metering.read_gate(
    p_tenant uuid, p_now timestamptz, p_customers text[],
    p_key_customers text[], p_key_items text[], p_key_prices text[], p_key_starts timestamptz[]
) RETURNS TABLE (
    kind integer, "position" bigint, number integer, quantity text, event_count bigint,
    rating_state jsonb, asked text, shortfall text, left_over text, pricing_id uuid,
    settlement smallint, scale smallint, period_start timestamptz, period_end timestamptz,
    start_time timestamptz, end_time timestamptz, customer_id text, item text, price_id text
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM set_config('tollgate.tenant_id', p_tenant::text, true);
    RETURN QUERY
    SELECT 0, NULL::bigint, m.version, NULL, NULL::bigint, NULL::jsonb, NULL, NULL, NULL,
           NULL::uuid, NULL::smallint, NULL::smallint, NULL::timestamptz, NULL::timestamptz,
           NULL::timestamptz, NULL::timestamptz, NULL, NULL, NULL
      FROM meter_set AS m
     WHERE m.tenant_id = p_tenant
    UNION ALL
    SELECT 1, k."position", u.number, u.quantity::text, u.event_count, u.rating_state,
           u.asked::text, u.shortfall::text, u.left_over::text, u.pricing_id, u.settlement,
           u.scale, u.period_start, u.period_end, u.start_time, u.end_time, NULL, NULL, NULL
      FROM unnest(p_key_customers, p_key_items, p_key_prices, p_key_starts)
           WITH ORDINALITY AS k (customer_id, item, price_id, period_start, "position")
     CROSS JOIN LATERAL (
         SELECT * FROM usage AS r
          WHERE r.tenant_id = p_tenant AND r.customer_id = k.customer_id
            AND r.subscription_item_id = k.item AND r.price_id = k.price_id
            AND r.period_start = k.period_start
         OFFSET 0
     ) AS u
    UNION ALL
    -- Customer by customer, and without the time, so that the plan is the same however small the
    -- table was when it was made: by the index of open authorizations, not by that of their ends.
    SELECT 2, NULL, NULL, sum((r.part ->> 3)::numeric)::text, NULL, NULL,
           sum((r.part ->> 4)::numeric)::text, NULL, NULL, NULL, NULL, NULL,
           (r.part ->> 2)::timestamptz, NULL, NULL, NULL, c.customer_id, r.part ->> 0, r.part ->> 1
      FROM unnest(p_customers) AS c (customer_id)
     CROSS JOIN LATERAL (
         SELECT u.reserved, u.expire_time FROM usage_authorization AS u
          WHERE u.tenant_id = p_tenant AND u.customer_id = c.customer_id
            AND u.state = 1 AND u.reserved <> '[]'
         OFFSET 0
     ) AS a
     CROSS JOIN LATERAL jsonb_array_elements(a.reserved) AS r (part)
     WHERE a.expire_time > p_now
     GROUP BY c.customer_id, r.part ->> 0, r.part ->> 1, (r.part ->> 2)::timestamptz;
END $$
--;
-- Keep answers of the gate in one trip and one commit; answers the request ids that nobody had
-- answered before.
CREATE FUNCTION metering.keep_authorizations(
    p_tenant uuid, p_ids uuid[], p_requests text[], p_fingerprints bytea[], p_customers text[],
    p_features text[], p_states smallint[], p_over_uses smallint[], p_holds jsonb[],
    p_reserved jsonb[], p_reasons jsonb[], p_created timestamptz[], p_expires timestamptz[]
) RETURNS SETOF text
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('tollgate.tenant_id', p_tenant::text, true);
    RETURN QUERY
    INSERT INTO usage_authorization (
        tenant_id, authorization_id, request_id, fingerprint, customer_id, feature, state,
        over_use, holds, reserved, reasons, create_time, expire_time
    )
    SELECT p_tenant, n.*
      FROM unnest(p_ids, p_requests, p_fingerprints, p_customers, p_features, p_states,
                  p_over_uses, p_holds, p_reserved, p_reasons, p_created, p_expires) AS n
    ON CONFLICT (tenant_id, request_id) DO NOTHING
    RETURNING request_id;
END $$
