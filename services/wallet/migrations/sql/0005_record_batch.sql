-- The second half of a money batch: write what was decided, set by set.
--
-- Balances, grants and holds are given as their new values; a row that is not where
-- open_batch left it makes the whole batch fail rather than be overwritten.
CREATE FUNCTION wallet.record_batch(
    b_tenant text[], b_wallet text[], b_asset text[], b_credited text[], b_debited text[],
    b_held text[], b_overdrawn text[], b_unbacked text[], b_dormant text[], b_forced text[],
    b_restricted integer[], b_next_change timestamptz[], b_sequence bigint[],
    b_change_time timestamptz[], b_sequence_before bigint[],
    g_tenant text[], g_wallet text[], g_id text[], g_remaining text[], g_held text[],
    g_dormant boolean[],
    n_tenant text[], n_wallet text[], n_id text[], n_asset text[], n_kind integer[],
    n_amount text[], n_remaining text[], n_held text[], n_priority integer[], n_breadth integer[],
    n_restrictions text[], n_effective timestamptz[], n_expire timestamptz[], n_cost text[],
    n_cost_asset text[], n_source text[], n_key text[], n_create_time timestamptz[],
    n_dormant boolean[],
    h_tenant text[], h_id text[], h_captured text[], h_state integer[], h_end_time timestamptz[],
    h_pin_wallets text[], h_pin_grants text[], h_pin_atoms text[],
    p_tenant text[], p_id text[], p_customer text[], p_wallet text[], p_asset text[],
    p_amount text[], p_captured text[], p_state integer[], p_meter text[], p_feature text[],
    p_product text[], p_reference text[], p_key text[], p_create_time timestamptz[],
    p_expire timestamptz[], p_end_time timestamptz[], p_share_wallets text[],
    p_share_atoms text[], p_share_sequences text[], p_pin_wallets text[], p_pin_grants text[],
    p_pin_atoms text[],
    t_tenant text[], t_wallet text[], t_sequence bigint[], t_kind integer[], t_asset text[],
    t_atoms text[], t_debit integer[], t_credit integer[], t_key text[], t_grants text[],
    t_grant_atoms text[], t_create_time timestamptz[],
    o_tenant text[], o_key text[], o_kind integer[], o_customer text[], o_reference text[],
    o_fingerprint bytea[], o_outcome text[], o_create_time timestamptz[]
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = wallet, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off
AS $$
DECLARE
    written bigint;
    moved CONSTANT text := 'a row moved without its lock: ';
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        RAISE EXCEPTION 'money does not move while synchronous_commit is off'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    IF cardinality(o_key) > 0 THEN
        INSERT INTO operations (tenant_id, request_id, kind, customer_id, reference, fingerprint,
                                outcome, create_time)
        SELECT i.tenant::uuid, i.key, i.kind, i.customer, i.reference, i.fingerprint, i.outcome,
               i.create_time
          FROM unnest(o_tenant, o_key, o_kind, o_customer, o_reference, o_fingerprint, o_outcome,
                      o_create_time)
               AS i (tenant, key, kind, customer, reference, fingerprint, outcome, create_time);
    END IF;

    IF cardinality(b_wallet) > 0 THEN
        UPDATE balances AS b
           SET credited = i.credited::numeric, debited = i.debited::numeric,
               held = i.held::numeric, overdrawn = i.overdrawn::numeric,
               held_unbacked = i.unbacked::numeric, dormant = i.dormant::numeric,
               forced = i.forced::numeric, restricted_grants = i.restricted,
               next_change_time = i.next_change, sequence = i.sequence,
               change_time = i.change_time
          FROM unnest(b_tenant, b_wallet, b_asset, b_credited, b_debited, b_held, b_overdrawn,
                      b_unbacked, b_dormant, b_forced, b_restricted, b_next_change, b_sequence,
                      b_change_time, b_sequence_before)
               AS i (tenant, wallet, asset, credited, debited, held, overdrawn, unbacked, dormant,
                     forced, restricted, next_change, sequence, change_time, sequence_before)
         WHERE b.tenant_id = i.tenant::uuid AND b.wallet_id = i.wallet::uuid
           AND b.asset = i.asset AND b.sequence = i.sequence_before;
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written < cardinality(b_wallet) THEN
            -- The first of an asset in a wallet; -1 says that there was no row.
            INSERT INTO balances (tenant_id, wallet_id, asset, credited, debited, held, overdrawn,
                                  held_unbacked, dormant, forced, restricted_grants,
                                  next_change_time, sequence, change_time)
            SELECT i.tenant::uuid, i.wallet::uuid, i.asset, i.credited::numeric,
                   i.debited::numeric, i.held::numeric, i.overdrawn::numeric, i.unbacked::numeric,
                   i.dormant::numeric, i.forced::numeric, i.restricted, i.next_change, i.sequence,
                   i.change_time
              FROM unnest(b_tenant, b_wallet, b_asset, b_credited, b_debited, b_held, b_overdrawn,
                          b_unbacked, b_dormant, b_forced, b_restricted, b_next_change,
                          b_sequence, b_change_time, b_sequence_before)
                   AS i (tenant, wallet, asset, credited, debited, held, overdrawn, unbacked,
                         dormant, forced, restricted, next_change, sequence, change_time,
                         sequence_before)
             WHERE i.sequence_before = -1;
            IF written + (SELECT count(*) FROM unnest(b_sequence_before) AS s (before)
                           WHERE s.before = -1) <> cardinality(b_wallet) THEN
                RAISE EXCEPTION '% balance', moved;
            END IF;
        END IF;
    END IF;

    IF cardinality(g_id) > 0 THEN
        UPDATE grants AS g
           SET remaining = i.remaining::numeric, held = i.held::numeric,
               open = i.remaining <> '0', dormant = i.dormant
          FROM unnest(g_tenant, g_wallet, g_id, g_remaining, g_held, g_dormant)
               AS i (tenant, wallet, id, remaining, held, dormant)
         WHERE g.tenant_id = i.tenant::uuid AND g.wallet_id = i.wallet::uuid
           AND g.grant_id = i.id::uuid;
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written <> cardinality(g_id) THEN
            RAISE EXCEPTION '% grant', moved;
        END IF;
    END IF;

    IF cardinality(n_id) > 0 THEN
        INSERT INTO grants (tenant_id, wallet_id, grant_id, asset, kind, amount, remaining, held,
                            priority, breadth, meters, features, products, effective_time,
                            expire_time, cost_basis, cost_asset, source, request_id, create_time,
                            open, dormant)
        SELECT i.tenant::uuid, i.wallet::uuid, i.id::uuid, i.asset, i.kind, i.amount::numeric,
               i.remaining::numeric, i.held::numeric, i.priority, i.breadth,
               ARRAY (SELECT json_array_elements_text(i.restrictions::json -> 0)),
               ARRAY (SELECT json_array_elements_text(i.restrictions::json -> 1)),
               ARRAY (SELECT json_array_elements_text(i.restrictions::json -> 2)),
               i.effective, i.expire, i.cost::numeric, i.cost_asset, i.source, i.key,
               i.create_time, i.remaining <> '0', i.dormant
          FROM unnest(n_tenant, n_wallet, n_id, n_asset, n_kind, n_amount, n_remaining, n_held,
                      n_priority, n_breadth, n_restrictions, n_effective, n_expire, n_cost,
                      n_cost_asset, n_source, n_key, n_create_time, n_dormant)
               AS i (tenant, wallet, id, asset, kind, amount, remaining, held, priority, breadth,
                     restrictions, effective, expire, cost, cost_asset, source, key, create_time,
                     dormant);
    END IF;

    IF cardinality(h_id) > 0 THEN
        UPDATE holds AS h
           SET captured = i.captured::numeric, state = i.state, end_time = i.end_time,
               pin_wallets = i.pin_wallets::uuid[], pin_grants = i.pin_grants::uuid[],
               pin_atoms = i.pin_atoms::numeric[]
          FROM unnest(h_tenant, h_id, h_captured, h_state, h_end_time, h_pin_wallets,
                      h_pin_grants, h_pin_atoms)
               AS i (tenant, id, captured, state, end_time, pin_wallets, pin_grants, pin_atoms)
         WHERE h.tenant_id = i.tenant::uuid AND h.hold_id = i.id::uuid AND h.state = 1;
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written <> cardinality(h_id) THEN
            RAISE EXCEPTION '% hold', moved;
        END IF;
    END IF;

    IF cardinality(p_id) > 0 THEN
        INSERT INTO holds (tenant_id, hold_id, customer_id, wallet_id, asset, amount, captured,
                           state, meter, feature, product, reference, request_id, create_time,
                           expire_time, end_time, share_wallets, share_atoms, share_sequences,
                           pin_wallets, pin_grants, pin_atoms)
        SELECT i.tenant::uuid, i.id::uuid, i.customer, i.wallet::uuid, i.asset, i.amount::numeric,
               i.captured::numeric, i.state, i.meter, i.feature, i.product, i.reference, i.key,
               i.create_time, i.expire, i.end_time, i.share_wallets::uuid[],
               i.share_atoms::numeric[], i.share_sequences::bigint[], i.pin_wallets::uuid[],
               i.pin_grants::uuid[], i.pin_atoms::numeric[]
          FROM unnest(p_tenant, p_id, p_customer, p_wallet, p_asset, p_amount, p_captured, p_state,
                      p_meter, p_feature, p_product, p_reference, p_key, p_create_time, p_expire,
                      p_end_time, p_share_wallets, p_share_atoms, p_share_sequences,
                      p_pin_wallets, p_pin_grants, p_pin_atoms)
               AS i (tenant, id, customer, wallet, asset, amount, captured, state, meter, feature,
                     product, reference, key, create_time, expire, end_time, share_wallets,
                     share_atoms, share_sequences, pin_wallets, pin_grants, pin_atoms);
    END IF;

    IF cardinality(t_wallet) > 0 THEN
        INSERT INTO transfers (tenant_id, wallet_id, sequence, kind, asset, atoms, debit_account,
                               credit_account, request_id, grant_ids, grant_atoms, create_time)
        SELECT i.tenant::uuid, i.wallet::uuid, i.sequence, i.kind, i.asset, i.atoms::numeric,
               i.debit, i.credit, i.key, i.grants::uuid[], i.grant_atoms::numeric[], i.create_time
          FROM unnest(t_tenant, t_wallet, t_sequence, t_kind, t_asset, t_atoms, t_debit, t_credit,
                      t_key, t_grants, t_grant_atoms, t_create_time)
               AS i (tenant, wallet, sequence, kind, asset, atoms, debit, credit, key, grants,
                     grant_atoms, create_time);
    END IF;

    IF cardinality(o_key) + cardinality(t_wallet) = 0 THEN
        -- A batch that only repeats answers: it too is answered only after what it repeats is
        -- durable, here and on every standby, so it writes a record and waits for that.
        PERFORM pg_logical_emit_message(true, 'wallet', '');
    END IF;
END $$
--;
-- Recharges that the batch started and alerts that it fired or armed; the messages go to the outbox
-- in the same transaction.
CREATE FUNCTION wallet.record_signals(
    r_tenant text[], r_wallet text[], r_asset text[], r_id text[], r_customer text[],
    r_generation integer[], r_atoms text[], r_month date[], r_month_bought text[],
    r_create_time timestamptz[],
    a_tenant text[], a_wallet text[], a_asset text[], a_armed boolean[]
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
DECLARE
    written bigint;
BEGIN
    UPDATE recharge_rules AS r
       SET in_flight = i.id::uuid, generation = i.generation, month = i.month,
           month_bought = i.month_bought::numeric
      FROM unnest(r_tenant, r_wallet, r_asset, r_id, r_generation, r_month, r_month_bought)
           AS i (tenant, wallet, asset, id, generation, month, month_bought)
     WHERE r.tenant_id = i.tenant::uuid AND r.wallet_id = i.wallet::uuid AND r.asset = i.asset
       AND r.generation = i.generation - 1 AND r.in_flight IS NULL;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> cardinality(r_wallet) THEN
        RAISE EXCEPTION 'a recharge rule moved without its lock';
    END IF;
    INSERT INTO recharges (tenant_id, recharge_id, wallet_id, customer_id, asset, generation,
                           atoms, month, state, create_time)
    SELECT i.tenant::uuid, i.id::uuid, i.wallet::uuid, i.customer, i.asset, i.generation,
           i.atoms::numeric, i.month, 1, i.create_time
      FROM unnest(r_tenant, r_id, r_wallet, r_customer, r_asset, r_generation, r_atoms, r_month,
                  r_create_time)
           AS i (tenant, id, wallet, customer, asset, generation, atoms, month, create_time);
    UPDATE balance_alerts AS a SET armed = i.armed
      FROM unnest(a_tenant, a_wallet, a_asset, a_armed) AS i (tenant, wallet, asset, armed)
     WHERE a.tenant_id = i.tenant::uuid AND a.wallet_id = i.wallet::uuid AND a.asset = i.asset;
END $$
