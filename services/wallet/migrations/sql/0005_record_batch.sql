-- The rows of a set, each as the array of its fields. The offset keeps the planner from splitting a
-- row anew for each of its columns.
CREATE FUNCTION wallet.fields(list text) RETURNS SETOF text[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT string_to_array(fields, E'\x1f', E'\x1d') FROM string_to_table(list, E'\x1e') AS fields
    OFFSET 0
$$
--;
-- The second half of a money batch: write what was decided, set by set.
--
-- Each set is one text: rows parted by the record separator (1E), fields by the unit separator (1F),
-- 1D alone for null. That is the cheapest form in which a thousand rows cross: an array of each column
-- costs the sender ten times as much.
--
-- Balances, grants and holds are given as their new values; a row that is not where open_batch left
-- it makes the whole batch fail rather than be overwritten. Rows are found by their key, one by one
-- of the set, and changed by their place, so that the plan is the same however small a table was
-- when it was made.
CREATE FUNCTION wallet.record_batch(
    p_operations text, p_balances text, p_balance_count integer, p_grants text,
    p_grant_count integer, p_new_grants text, p_holds text, p_hold_count integer,
    p_new_holds text, p_transfers text
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = wallet, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off
AS $$
DECLARE
    written bigint;
    moved CONSTANT text := 'a row moved without its lock:';
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        RAISE EXCEPTION 'money does not move while synchronous_commit is off'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    IF p_operations <> '' THEN
        INSERT INTO operations (tenant_id, request_id, kind, customer_id, reference, fingerprint,
                                outcome, create_time)
        SELECT f[1]::uuid, f[2], f[3]::smallint, f[4], f[5], decode(f[6], 'hex'), f[7],
               f[8]::timestamptz
          FROM fields(p_operations) AS f;
    END IF;

    IF p_balances <> '' THEN
        UPDATE balances AS b
           SET credited = f[4]::numeric, debited = f[5]::numeric, held = f[6]::numeric,
               overdrawn = f[7]::numeric, held_unbacked = f[8]::numeric,
               dormant = f[9]::numeric, forced = f[10]::numeric,
               restricted_grants = f[11]::integer, next_change_time = f[12]::timestamptz,
               sequence = f[13]::bigint, change_time = f[14]::timestamptz
          FROM fields(p_balances) AS f
         CROSS JOIN LATERAL (
             SELECT u.ctid AS place FROM balances AS u
              WHERE u.tenant_id = f[1]::uuid AND u.wallet_id = f[2]::uuid AND u.asset = f[3]
                AND u.sequence = f[15]::bigint
             OFFSET 0
         ) AS k
         WHERE b.ctid = k.place;
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written < p_balance_count THEN
            -- The first of an asset in a wallet; -1 says that there was no row.
            INSERT INTO balances (tenant_id, wallet_id, asset, credited, debited, held, overdrawn,
                                  held_unbacked, dormant, forced, restricted_grants,
                                  next_change_time, sequence, change_time)
            SELECT f[1]::uuid, f[2]::uuid, f[3], f[4]::numeric, f[5]::numeric, f[6]::numeric,
                   f[7]::numeric, f[8]::numeric, f[9]::numeric, f[10]::numeric, f[11]::integer,
                   f[12]::timestamptz, f[13]::bigint, f[14]::timestamptz
              FROM fields(p_balances) AS f WHERE f[15] = '-1';
            IF written + (SELECT count(*) FROM fields(p_balances) AS f WHERE f[15] = '-1')
               <> p_balance_count THEN
                RAISE EXCEPTION '% a balance', moved;
            END IF;
        END IF;
    END IF;

    IF p_grants <> '' THEN
        UPDATE grants AS g
           SET remaining = f[4]::numeric, held = f[5]::numeric, open = f[4] <> '0',
               dormant = f[6]::boolean
          FROM fields(p_grants) AS f
         CROSS JOIN LATERAL (
             SELECT u.ctid AS place FROM grants AS u
              WHERE u.tenant_id = f[1]::uuid AND u.wallet_id = f[2]::uuid
                AND u.grant_id = f[3]::uuid
             OFFSET 0
         ) AS k
         WHERE g.ctid = k.place;
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written <> p_grant_count THEN
            RAISE EXCEPTION '% a grant', moved;
        END IF;
    END IF;

    IF p_new_grants <> '' THEN
        INSERT INTO grants (tenant_id, wallet_id, grant_id, asset, kind, amount, remaining, held,
                            priority, breadth, meters, features, products, effective_time,
                            expire_time, cost_basis, cost_asset, source, request_id, create_time,
                            open, dormant)
        SELECT f[1]::uuid, f[2]::uuid, f[3]::uuid, f[4], f[5]::smallint, f[6]::numeric,
               f[7]::numeric, f[8]::numeric, f[9]::smallint, f[10]::smallint,
               ARRAY (SELECT json_array_elements_text(f[11]::json -> 0)),
               ARRAY (SELECT json_array_elements_text(f[11]::json -> 1)),
               ARRAY (SELECT json_array_elements_text(f[11]::json -> 2)),
               f[12]::timestamptz, f[13]::timestamptz, f[14]::numeric, f[15], f[16], f[17],
               f[18]::timestamptz, f[7] <> '0', f[19]::boolean
          FROM fields(p_new_grants) AS f;
    END IF;

    IF p_holds <> '' THEN
        UPDATE holds AS h
           SET captured = f[3]::numeric, state = f[4]::smallint, end_time = f[5]::timestamptz,
               pin_wallets = f[6]::uuid[], pin_grants = f[7]::uuid[],
               pin_atoms = f[8]::numeric[]
          FROM fields(p_holds) AS f
         CROSS JOIN LATERAL (
             -- The state is looked at outside, lest the few open holds be searched for the one.
             SELECT u.ctid AS place, u.state FROM holds AS u
              WHERE u.tenant_id = f[1]::uuid AND u.hold_id = f[2]::uuid
             OFFSET 0
         ) AS k
         WHERE h.ctid = k.place AND k.state = 1;
        GET DIAGNOSTICS written = ROW_COUNT;
        IF written <> p_hold_count THEN
            RAISE EXCEPTION '% a hold', moved;
        END IF;
    END IF;

    IF p_new_holds <> '' THEN
        INSERT INTO holds (tenant_id, hold_id, customer_id, wallet_id, asset, amount, captured,
                           state, meter, feature, product, reference, request_id, create_time,
                           expire_time, end_time, share_wallets, share_atoms, share_sequences,
                           pin_wallets, pin_grants, pin_atoms)
        SELECT f[1]::uuid, f[2]::uuid, f[3], f[4]::uuid, f[5], f[6]::numeric, f[7]::numeric,
               f[8]::smallint, f[9], f[10], f[11], f[12], f[13], f[14]::timestamptz,
               f[15]::timestamptz, f[16]::timestamptz, f[17]::uuid[], f[18]::numeric[],
               f[19]::bigint[], f[20]::uuid[], f[21]::uuid[], f[22]::numeric[]
          FROM fields(p_new_holds) AS f;
    END IF;

    IF p_transfers <> '' THEN
        INSERT INTO transfers (tenant_id, wallet_id, sequence, kind, asset, atoms, debit_account,
                               credit_account, request_id, grant_ids, grant_atoms, create_time)
        SELECT f[1]::uuid, f[2]::uuid, f[3]::bigint, f[4]::smallint, f[5], f[6]::numeric,
               f[7]::smallint, f[8]::smallint, f[9], f[10]::uuid[], f[11]::numeric[],
               f[12]::timestamptz
          FROM fields(p_transfers) AS f;
    END IF;

    IF p_operations = '' AND p_transfers = '' THEN
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
