-- Budgets: a customer's tree of nodes, the caps on them, and what was spent on whose behalf.
CREATE TABLE wallet.budget_nodes (
    tenant_id uuid NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    parent_key text COLLATE "C",
    name text NOT NULL,
    -- Keys from the root down to this node.
    path text[] COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, customer_id, key),
    CONSTRAINT the_parent_is_in_the_same_tree FOREIGN KEY (tenant_id, customer_id, parent_key)
        REFERENCES wallet.budget_nodes (tenant_id, customer_id, key),
    CONSTRAINT a_path_ends_at_its_node CHECK (path[cardinality(path)] = key),
    CONSTRAINT a_tree_has_at_most_8_levels CHECK (cardinality(path) BETWEEN 1 AND 8)
)
--;
CREATE INDEX budget_nodes_below
    ON wallet.budget_nodes (tenant_id, customer_id, parent_key, key)
--;
CREATE TABLE wallet.budget_caps (
    tenant_id uuid NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    node text COLLATE "C" NOT NULL,
    cap_id uuid NOT NULL,
    asset text COLLATE "C" NOT NULL,
    -- Empty: every meter.
    meter text COLLATE "C" NOT NULL,
    -- Written as budgets/domain/windows.py reads it.
    "window" text COLLATE "C" NOT NULL,
    limit_atoms numeric(38,0) NOT NULL,
    hard boolean NOT NULL,
    percents integer[] NOT NULL,
    -- Rises with every change of what follows.
    version bigint NOT NULL DEFAULT 0,
    held numeric(38,0) NOT NULL DEFAULT 0,
    -- What was spent, slot by slot; the newest slot stays until there is a newer one.
    slot_starts timestamptz[] NOT NULL DEFAULT '{}',
    slot_stops timestamptz[] NOT NULL DEFAULT '{}',
    slot_leaves timestamptz[] NOT NULL DEFAULT '{}',
    slot_atoms numeric(38,0)[] NOT NULL DEFAULT '{}',
    told integer NOT NULL DEFAULT 0,
    refusal_told timestamptz NOT NULL DEFAULT 'epoch',
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, customer_id, node, cap_id),
    CONSTRAINT a_cap_is_on_a_node FOREIGN KEY (tenant_id, customer_id, node)
        REFERENCES wallet.budget_nodes (tenant_id, customer_id, key),
    CONSTRAINT held_and_limit_are_never_negative CHECK (held >= 0 AND limit_atoms >= 0),
    CONSTRAINT every_slot_is_whole CHECK (
        cardinality(slot_starts) = cardinality(slot_atoms)
        AND cardinality(slot_stops) = cardinality(slot_atoms)
        AND cardinality(slot_leaves) = cardinality(slot_atoms)
    )
) WITH (fillfactor = 50)
--;
CREATE UNIQUE INDEX one_cap_an_asset_meter_and_window
    ON wallet.budget_caps (tenant_id, customer_id, node, asset, meter, "window")
--;
-- The budgets' journal: what each operation that named a node spent. Append-only like the ledger's.
CREATE TABLE wallet.budget_entries (
    tenant_id uuid NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    path text[] COLLATE "C" NOT NULL,
    asset text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    -- Moved in the ledger under this key; below zero where it was reversed.
    atoms numeric(38,0) NOT NULL,
    -- Spent too, though no wallet paid for it.
    shortfall numeric(38,0) NOT NULL,
    hold_id uuid,
    -- The instant in whose window it counts.
    count_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, request_id),
    CONSTRAINT something_is_spent CHECK (atoms <> 0 OR shortfall <> 0)
)
--;
CREATE INDEX budget_entries_in_time
    ON wallet.budget_entries (tenant_id, customer_id, asset, count_time)
--;
CREATE TRIGGER budget_journal_is_append_only BEFORE UPDATE OR DELETE ON wallet.budget_entries
    FOR EACH ROW EXECUTE FUNCTION wallet.refuse_change()
--;
CREATE TRIGGER budget_journal_is_not_emptied BEFORE TRUNCATE ON wallet.budget_entries
    FOR EACH STATEMENT EXECUTE FUNCTION wallet.refuse_change()
--;
-- The path of the node that a hold was placed for; null for the many that name none.
ALTER TABLE wallet.holds ADD COLUMN budget_path text[]
--;
CREATE INDEX holds_open_of_budgets ON wallet.holds (tenant_id, customer_id)
    WHERE state = 1 AND budget_path IS NOT NULL
--;
DROP FUNCTION wallet.open_batch
--;
-- As before, and with the path of the node that each hold was placed for.
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
    OUT h_path text[],
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
                   array_to_string(h.pin_grants, ',', '-'), array_to_string(h.pin_atoms, ','))),
               array_agg(to_json(h.budget_path)::text)
          INTO h_tenant, h_id, h_customer, h_wallet, h_asset, h_amount, h_captured, h_state,
               h_meter, h_feature, h_product, h_reference, h_create_time, h_expire, h_shares,
               h_pins, h_path
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
-- What the nodes of a batch are bound by: their paths, and the caps on those and on the paths of
-- holds. Called only by batches that name a node, under the locks that open_batch has taken.
--
-- p_named: (tenant, customer, key) of nodes that items name; p_held: the same of nodes on the paths
-- of the batch's holds, whose caps alone are wanted.
CREATE FUNCTION wallet.open_budgets(p_named text, p_held text)
RETURNS TABLE (
    tenant text, customer text, node text, path text, cap_id text, asset text, scale smallint,
    meter text, "window" text, limit_atoms text, hard boolean, percents integer[], version bigint,
    held text, slot_starts timestamptz[], slot_stops timestamptz[], slot_leaves timestamptz[],
    slot_atoms text[], told integer, refusal_told timestamptz, create_time timestamptz
)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = wallet, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
    WITH named AS (
        SELECT n.tenant_id, n.customer_id, n.key, n.path
          FROM fields(p_named) AS f
         CROSS JOIN LATERAL (
             SELECT u.* FROM budget_nodes AS u
              WHERE u.tenant_id = f[1]::uuid AND u.customer_id = f[2] AND u.key = f[3]
             OFFSET 0
         ) AS n
    ), bound AS (
        SELECT n.tenant_id, n.customer_id, k.key
          FROM named AS n CROSS JOIN LATERAL unnest(n.path) AS k (key)
        UNION
        SELECT f[1]::uuid, f[2], f[3] FROM fields(p_held) AS f
    )
    SELECT n.tenant_id::text, n.customer_id, n.key, to_json(n.path)::text, NULL, NULL, NULL, NULL,
           NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
           NULL::timestamptz
      FROM named AS n
    UNION ALL
    SELECT c.tenant_id::text, c.customer_id, c.node, NULL, c.cap_id::text, c.asset, a.scale,
           c.meter, c."window", c.limit_atoms::text, c.hard, c.percents, c.version, c.held::text,
           c.slot_starts, c.slot_stops, c.slot_leaves, c.slot_atoms::text[], c.told,
           c.refusal_told, c.create_time
      FROM bound AS b
     CROSS JOIN LATERAL (
         SELECT u.* FROM budget_caps AS u
          WHERE u.tenant_id = b.tenant_id AND u.customer_id = b.customer_id AND u.node = b.key
         ORDER BY u.cap_id
     ) AS c
     CROSS JOIN LATERAL (
         SELECT u.scale FROM assets AS u WHERE u.tenant_id = c.tenant_id AND u.code = c.asset
         OFFSET 0
     ) AS a
$$
--;
-- What a batch changed in budgets: the caps' new figures, the journal's new lines, and the paths of
-- the holds that record_batch has just written.
CREATE FUNCTION wallet.record_budgets(
    p_caps text, p_cap_count integer, p_entries text, p_holds text, p_hold_count integer
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = wallet, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    written bigint;
BEGIN
    UPDATE budget_caps AS c
       SET held = f[5]::numeric, slot_starts = f[6]::timestamptz[],
           slot_stops = f[7]::timestamptz[], slot_leaves = f[8]::timestamptz[],
           slot_atoms = f[9]::numeric[], told = f[10]::integer,
           refusal_told = f[11]::timestamptz, version = c.version + 1
      FROM fields(p_caps) AS f
     WHERE c.tenant_id = f[1]::uuid AND c.customer_id = f[2] AND c.node = f[3]
       AND c.cap_id = f[4]::uuid AND c.version = f[12]::bigint;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> p_cap_count THEN
        RAISE EXCEPTION 'a cap moved without its lock';
    END IF;
    INSERT INTO budget_entries (tenant_id, request_id, customer_id, path, asset, meter, atoms,
                                shortfall, hold_id, count_time)
    SELECT f[1]::uuid, f[2], f[3], ARRAY (SELECT json_array_elements_text(f[4]::json)), f[5], f[6],
           f[7]::numeric, f[8]::numeric, f[9]::uuid, f[10]::timestamptz
      FROM fields(p_entries) AS f;
    UPDATE holds AS h SET budget_path = ARRAY (SELECT json_array_elements_text(f[3]::json))
      FROM fields(p_holds) AS f
     WHERE h.tenant_id = f[1]::uuid AND h.hold_id = f[2]::uuid;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> p_hold_count THEN
        RAISE EXCEPTION 'a hold of a budget was not written';
    END IF;
END $$
