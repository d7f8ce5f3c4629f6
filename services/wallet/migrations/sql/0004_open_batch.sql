-- Pairs of ids out of one text: rows parted by 1E, fields by 1F.
CREATE FUNCTION wallet.id_pairs(list text) RETURNS TABLE (first_id text, second_id text)
LANGUAGE sql IMMUTABLE AS $$
    SELECT split_part(pair, E'\x1f', 1), split_part(pair, E'\x1f', 2)
      FROM string_to_table(list, E'\x1e') AS pair
$$
--;
-- The first half of a money batch: lock, then look.
--
-- Locks the wallets that the batch's items touch, in key order, and only then reads the clock, what
-- the batch's keys were answered before, balances, open grants, holds and recharge rules. It is
-- volatile, so each statement has a snapshot of its own: what a lock waited for is seen.
--
-- Lists of ids are texts: rows parted by the record separator (1E), fields by the unit separator (1F),
-- neither of which an id or key can hold. Each look-up is a lateral one, so that the plan is the same
-- however small a table was when it was made: by the index, row by row of the list.
--
-- Grants come in burn order and at most p_grants_max of a balance, unless the balance has grants
-- for some purposes only or one whose time has come: then all of them.
CREATE FUNCTION wallet.open_batch(
    p_customers text, p_wallets text, p_holds text, p_keys text,
    p_assets text[],
    p_clock_tenants text[], p_clock_times timestamptz[],
    p_grants_max integer,
    OUT clock timestamptz,
    OUT w_tenant text[], OUT w_id text[], OUT w_customer text[], OUT w_priority smallint[],
    OUT w_restrictions text[], OUT w_mode smallint[], OUT w_late boolean[], OUT w_state smallint[],
    OUT b_tenant text[], OUT b_wallet text[], OUT b_asset text[], OUT b_credited text[],
    OUT b_debited text[], OUT b_held text[], OUT b_overdrawn text[], OUT b_unbacked text[],
    OUT b_dormant text[], OUT b_floor text[], OUT b_forced text[], OUT b_restricted integer[],
    OUT b_next_change timestamptz[], OUT b_sequence bigint[], OUT b_change_time timestamptz[],
    OUT g_listed boolean[], OUT g_tenant text[], OUT g_wallet text[], OUT g_asset text[],
    OUT g_id text[], OUT g_kind smallint[], OUT g_amount text[], OUT g_remaining text[],
    OUT g_held text[], OUT g_priority smallint[], OUT g_breadth smallint[],
    OUT g_restrictions text[], OUT g_effective timestamptz[], OUT g_expire timestamptz[],
    OUT g_cost text[], OUT g_create_time timestamptz[], OUT g_dormant boolean[],
    OUT h_tenant text[], OUT h_id text[], OUT h_customer text[], OUT h_wallet text[],
    OUT h_asset text[], OUT h_amount text[], OUT h_captured text[], OUT h_state smallint[],
    OUT h_meter text[], OUT h_feature text[], OUT h_product text[], OUT h_reference text[], OUT h_create_time timestamptz[],
    OUT h_expire timestamptz[], OUT h_shares text[], OUT h_pins text[],
    OUT k_tenant text[], OUT k_key text[], OUT k_fingerprint bytea[], OUT k_outcome text[],
    OUT r_tenant text[], OUT r_wallet text[], OUT r_asset text[], OUT r_threshold text[],
    OUT r_mode smallint[], OUT r_value text[], OUT r_unit_price text[], OUT r_price_asset text[],
    OUT r_price_scale smallint[], OUT r_cap text[], OUT r_method text[], OUT r_generation integer[],
    OUT r_in_flight boolean[], OUT r_pause timestamptz[], OUT r_month date[],
    OUT r_month_bought text[], OUT r_scale smallint[],
    OUT a_tenant text[], OUT a_wallet text[], OUT a_asset text[], OUT a_threshold text[],
    OUT a_armed boolean[], OUT a_scale smallint[]
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = wallet, pg_temp
-- Plans are made once, while tables may still be small: name the one that suits large ones.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off
AS $$
DECLARE
    tenants uuid[];
    wallet_ids uuid[];
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        RAISE EXCEPTION 'money does not move while synchronous_commit is off'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    SELECT array_agg(s.tenant_id), array_agg(s.wallet_id), array_agg(s.tenant_id::text),
           array_agg(s.wallet_id::text), array_agg(s.customer_id), array_agg(s.priority),
           array_agg(CASE WHEN s.meters || s.features || s.products <> '{}' THEN
               json_build_array(s.meters, s.features, s.products)::text END),
           array_agg(s.shortfall_mode), array_agg(s.late_capture_allowed), array_agg(s.state)
      INTO tenants, wallet_ids, w_tenant, w_id, w_customer, w_priority, w_restrictions, w_mode,
           w_late, w_state
      FROM (
          SELECT i.tenant_id, i.wallet_id FROM (
              SELECT c.tenant_id, c.wallet_id
                FROM id_pairs(p_customers) AS i
               CROSS JOIN LATERAL (
                   SELECT w.tenant_id, w.wallet_id FROM wallets AS w
                    WHERE w.tenant_id = i.first_id::uuid AND w.customer_id = i.second_id
                   OFFSET 0
               ) AS c
              UNION
              SELECT i.first_id::uuid, i.second_id::uuid FROM id_pairs(p_wallets) AS i
          ) AS i
          ORDER BY i.tenant_id, i.wallet_id
      ) AS k
     CROSS JOIN LATERAL (
         SELECT w.* FROM wallets AS w
          WHERE w.tenant_id = k.tenant_id AND w.wallet_id = k.wallet_id
            FOR UPDATE
     ) AS s;

    clock := clock_timestamp();

    SELECT array_agg(i.first_id), array_agg(i.second_id), array_agg(o.fingerprint),
           array_agg(o.outcome)
      INTO k_tenant, k_key, k_fingerprint, k_outcome
      FROM id_pairs(p_keys) AS i
     CROSS JOIN LATERAL (
         SELECT u.fingerprint, u.outcome FROM operations AS u
          WHERE u.tenant_id = i.first_id::uuid AND u.request_id = i.second_id
         OFFSET 0
     ) AS o;

    IF p_holds <> '' THEN
        SELECT array_agg(h.tenant_id::text), array_agg(h.hold_id::text), array_agg(h.customer_id),
               array_agg(h.wallet_id::text), array_agg(h.asset), array_agg(h.amount::text),
               array_agg(h.captured::text), array_agg(h.state),
               array_agg(h.meter), array_agg(h.feature), array_agg(h.product),
               array_agg(h.reference), array_agg(h.create_time), array_agg(h.expire_time),
               array_agg(concat_ws('|', array_to_string(h.share_wallets, ','),
                   array_to_string(h.share_atoms, ','), array_to_string(h.share_sequences, ','))),
               array_agg(concat_ws('|', array_to_string(h.pin_wallets, ','),
                   array_to_string(h.pin_grants, ',', '-'), array_to_string(h.pin_atoms, ',')))
          INTO h_tenant, h_id, h_customer, h_wallet, h_asset, h_amount, h_captured, h_state,
               h_meter, h_feature, h_product, h_reference, h_create_time, h_expire, h_shares,
               h_pins
          FROM id_pairs(p_holds) AS i
         CROSS JOIN LATERAL (
             SELECT u.* FROM holds AS u
              WHERE u.tenant_id = i.first_id::uuid AND u.hold_id = i.second_id::uuid
             OFFSET 0
         ) AS h;
    END IF;

    IF tenants IS NULL THEN
        RETURN;
    END IF;

    SELECT array_agg(b.tenant_id::text), array_agg(b.wallet_id::text), array_agg(b.asset),
           array_agg(b.credited::text), array_agg(b.debited::text), array_agg(b.held::text),
           array_agg(b.overdrawn::text), array_agg(b.held_unbacked::text),
           array_agg(b.dormant::text), array_agg(b.floor::text), array_agg(b.forced::text),
           array_agg(b.restricted_grants), array_agg(b.next_change_time), array_agg(b.sequence),
           array_agg(b.change_time)
      INTO b_tenant, b_wallet, b_asset, b_credited, b_debited, b_held, b_overdrawn, b_unbacked,
           b_dormant, b_floor, b_forced, b_restricted, b_next_change, b_sequence, b_change_time
      FROM unnest(tenants, wallet_ids) AS i (tenant_id, wallet_id)
     CROSS JOIN LATERAL (
         SELECT u.* FROM balances AS u
          WHERE u.tenant_id = i.tenant_id AND u.wallet_id = i.wallet_id
         OFFSET 0
     ) AS b;

    SELECT array_agg(g.listed), array_agg(g.tenant_id::text), array_agg(g.wallet_id::text),
           array_agg(g.asset), array_agg(g.grant_id::text), array_agg(g.kind),
           array_agg(g.amount::text), array_agg(g.remaining::text), array_agg(g.held::text),
           array_agg(g.priority), array_agg(g.breadth),
           array_agg(CASE WHEN g.breadth < 3 THEN
               json_build_array(g.meters, g.features, g.products)::text END),
           array_agg(g.effective_time), array_agg(g.expire_time), array_agg(g.cost_basis::text),
           array_agg(g.create_time), array_agg(g.dormant)
      INTO g_listed, g_tenant, g_wallet, g_asset, g_id, g_kind, g_amount, g_remaining, g_held,
           g_priority, g_breadth, g_restrictions, g_effective, g_expire, g_cost, g_create_time,
           g_dormant
      FROM (
          SELECT true AS listed, l.*
            FROM unnest(b_tenant, b_wallet, b_asset, b_restricted, b_next_change)
                 AS b (tenant, wallet, asset, restricted_grants, next_change_time)
            LEFT JOIN unnest(p_clock_tenants, p_clock_times) AS t (tenant, instant)
              ON t.tenant = b.tenant
           CROSS JOIN LATERAL (
               SELECT o.* FROM grants AS o
                WHERE o.tenant_id = b.tenant::uuid AND o.wallet_id = b.wallet::uuid
                  AND o.asset = b.asset AND o.open
                ORDER BY o.tenant_id, o.wallet_id, o.asset, o.priority, o.breadth, o.expire_time,
                         o.cost_basis, o.effective_time, o.create_time, o.grant_id
                LIMIT CASE WHEN b.restricted_grants > 0
                             OR b.next_change_time <= coalesce(t.instant, clock)
                           THEN NULL ELSE p_grants_max END
           ) AS l
           WHERE b.asset = ANY (p_assets)
          UNION ALL
          -- What the batch's holds pin, wherever it stands in the order.
          SELECT false, p.*
            FROM (SELECT DISTINCT h.tenant_id, u.wallet_id, u.grant_id
                    FROM id_pairs(p_holds) AS i
                   CROSS JOIN LATERAL (
                       SELECT o.tenant_id, o.pin_wallets, o.pin_grants FROM holds AS o
                        WHERE o.tenant_id = i.first_id::uuid AND o.hold_id = i.second_id::uuid
                       OFFSET 0
                   ) AS h
                   CROSS JOIN LATERAL unnest(h.pin_wallets, h.pin_grants)
                         AS u (wallet_id, grant_id)
                 ) AS h
           CROSS JOIN LATERAL (
               SELECT u.* FROM grants AS u
                WHERE u.tenant_id = h.tenant_id AND u.wallet_id = h.wallet_id
                  AND u.grant_id = h.grant_id
               OFFSET 0
           ) AS p
      ) AS g;

    SELECT array_agg(r.tenant_id::text), array_agg(r.wallet_id::text), array_agg(r.asset),
           array_agg(r.threshold::text), array_agg(r.mode), array_agg(r.value::text),
           array_agg(r.unit_price::text), array_agg(r.price_asset), array_agg(r.price_scale),
           array_agg(r.monthly_cap::text), array_agg(r.payment_method_id),
           array_agg(r.generation), array_agg(r.in_flight IS NOT NULL), array_agg(r.pause_until),
           array_agg(r.month), array_agg(r.month_bought::text), array_agg(s.scale)
      INTO r_tenant, r_wallet, r_asset, r_threshold, r_mode, r_value, r_unit_price, r_price_asset,
           r_price_scale, r_cap, r_method, r_generation, r_in_flight, r_pause, r_month,
           r_month_bought, r_scale
      FROM unnest(tenants, wallet_ids) AS i (tenant_id, wallet_id)
     CROSS JOIN LATERAL (
         SELECT u.* FROM recharge_rules AS u
          WHERE u.tenant_id = i.tenant_id AND u.wallet_id = i.wallet_id AND u.enabled
         OFFSET 0
     ) AS r
     CROSS JOIN LATERAL (
         SELECT u.scale FROM assets AS u WHERE u.tenant_id = r.tenant_id AND u.code = r.asset
         OFFSET 0
     ) AS s;

    SELECT array_agg(a.tenant_id::text), array_agg(a.wallet_id::text), array_agg(a.asset),
           array_agg(a.threshold::text), array_agg(a.armed), array_agg(s.scale)
      INTO a_tenant, a_wallet, a_asset, a_threshold, a_armed, a_scale
      FROM unnest(tenants, wallet_ids) AS i (tenant_id, wallet_id)
     CROSS JOIN LATERAL (
         SELECT u.* FROM balance_alerts AS u
          WHERE u.tenant_id = i.tenant_id AND u.wallet_id = i.wallet_id
         OFFSET 0
     ) AS a
     CROSS JOIN LATERAL (
         SELECT u.scale FROM assets AS u WHERE u.tenant_id = a.tenant_id AND u.code = a.asset
         OFFSET 0
     ) AS s;
END $$
--;
-- All open grants of some balances of a batch that is under way, where the first few did not do.
CREATE FUNCTION wallet.list_open_grants(p_tenants text[], p_wallets text[], p_assets text[])
RETURNS TABLE (
    g_listed boolean, g_tenant text, g_wallet text, g_asset text, g_id text, g_kind smallint,
    g_amount text, g_remaining text, g_held text, g_priority smallint, g_breadth smallint,
    g_restrictions text, g_effective timestamptz, g_expire timestamptz, g_cost text,
    g_create_time timestamptz, g_dormant boolean
)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
    SELECT true, g.tenant_id::text, g.wallet_id::text, g.asset, g.grant_id::text, g.kind,
           g.amount::text, g.remaining::text, g.held::text, g.priority, g.breadth,
           CASE WHEN g.breadth < 3 THEN
               json_build_array(g.meters, g.features, g.products)::text END,
           g.effective_time, g.expire_time, g.cost_basis::text, g.create_time, g.dormant
      FROM unnest(p_tenants, p_wallets, p_assets) AS i (tenant, wallet, asset)
      JOIN grants AS g ON g.tenant_id = i.tenant::uuid AND g.wallet_id = i.wallet::uuid
                      AND g.asset = i.asset AND g.open
     ORDER BY g.tenant_id, g.wallet_id, g.asset, g.priority, g.breadth, g.expire_time,
              g.cost_basis, g.effective_time, g.create_time, g.grant_id
$$
