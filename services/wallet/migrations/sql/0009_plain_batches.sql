-- Plain items, decided where their rows are: one trip and one transaction for a batch of them.
--
-- Most items are plain: the customer has one wallet that may pay for anything, the first grant in
-- burn order covers all that the batch asks of it, no grant's time has come, no debt is to be
-- settled, no budget counts it, and no recharge or alert is set off. For those there is nothing to
-- weigh. A customer with an item that is not plain is left alone here, with all of its items, and the
-- caller decides those in the full way. So nothing here says no.
--
-- Sets cross as texts, as in record_batch. A key that was answered before violates the primary key of
-- operations, and the whole batch is undone: the full way then answers it as a repetition. What is
-- looked up by number is an array, since a join of two sets whose sizes the planner can not know is
-- either a look-up in a table of ten million rows or a million comparisons.

-- Locks the wallets of customers in key order, as open_batch does, then looks at their purses: one
-- asset of one customer. Rows of p_customers: tenant, customer. Rows of p_purses: customer's number,
-- asset, atoms asked of it, and the latest of the tenant's clocks if it has one. `captures` says that
-- nothing is asked and something may come back. Answers arrays by number of purse.
CREATE FUNCTION wallet.weigh_plain(
    p_customers text, p_purses text, captures boolean,
    OUT clock timestamptz, OUT oks boolean[], OUT tenants uuid[], OUT wallets uuid[],
    OUT sequences bigint[], OUT change_times timestamptz[], OUT places tid[],
    OUT spendables numeric[], OUT grants uuid[], OUT grant_places tid[]
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = wallet, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off
AS $$
DECLARE
    owner_tenants uuid[];
    owner_wallets uuid[];
BEGIN
    IF current_setting('synchronous_commit') = 'off' THEN
        RAISE EXCEPTION 'money does not move while synchronous_commit is off'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    SELECT array_agg(o.tenant_id), array_agg(o.wallet_id)
      INTO owner_tenants, owner_wallets
      FROM (
          -- Null unless it has one wallet, which is active and may pay for anything.
          SELECT r.number, (array_agg(r.tenant_id) FILTER (WHERE r.plain))[1] AS tenant_id,
                 CASE WHEN count(r.wallet_id) = 1 THEN
                     (array_agg(r.wallet_id) FILTER (WHERE r.plain))[1] END AS wallet_id
            FROM (
                SELECT k.number, s.tenant_id, s.wallet_id,
                       s.state = 1 AND s.meters || s.features || s.products = '{}' AS plain
                  FROM (
                      SELECT c.number, w.tenant_id, w.wallet_id
                        FROM (
                            SELECT string_to_array(t.line, E'\x1f') AS f, t.number
                              FROM string_to_table(p_customers, E'\x1e') WITH ORDINALITY
                                   AS t (line, number)
                            OFFSET 0
                        ) AS c
                       CROSS JOIN LATERAL (
                           SELECT u.tenant_id, u.wallet_id FROM wallets AS u
                            WHERE u.tenant_id = c.f[1]::uuid AND u.customer_id = c.f[2]
                           OFFSET 0
                       ) AS w
                       ORDER BY w.tenant_id, w.wallet_id
                  ) AS k
                 CROSS JOIN LATERAL (
                     SELECT w.* FROM wallets AS w
                      WHERE w.tenant_id = k.tenant_id AND w.wallet_id = k.wallet_id
                        FOR UPDATE
                 ) AS s
                UNION ALL
                SELECT t.number, NULL, NULL, false
                  FROM string_to_table(p_customers, E'\x1e') WITH ORDINALITY AS t (line, number)
            ) AS r
           GROUP BY r.number
           ORDER BY r.number
      ) AS o;

    clock := clock_timestamp();

    SELECT array_agg(q.ok), array_agg(q.tenant_id), array_agg(q.wallet_id),
           array_agg(q.sequence), array_agg(q.change_time), array_agg(q.place),
           array_agg(q.spendable), array_agg(q.grant_id), array_agg(q.grant_place)
      INTO oks, tenants, wallets, sequences, change_times, places, spendables, grants,
           grant_places
      FROM (
          SELECT p.number, p.tenant_id, p.wallet_id, m.sequence, m.change_time, b.place,
                 b.spendable, g.grant_id, g.place AS grant_place,
                 -- Numbers run through a wallet, whatever the asset: all of its purses, or none.
                 bool_and(coalesce(
                     b.restricted_grants = 0
                     AND b.next_change_time
                         > greatest(coalesce(p.last_time, clock), m.change_time)
                     AND (r.threshold IS NULL OR b.available - p.atoms > r.threshold)
                     AND CASE
                         WHEN l.threshold IS NULL THEN true
                         WHEN l.armed THEN b.available - p.atoms > l.threshold
                         -- One that is off is armed again by what a capture gives back.
                         ELSE NOT captures AND b.available <= l.threshold
                     END
                     AND CASE WHEN captures THEN b.overdrawn <= b.held_unbacked
                              ELSE p.atoms <= b.funds AND p.atoms <= g.free END,
                     false)) OVER (PARTITION BY p.customer) AS ok
            FROM (
                SELECT t.number, t.f[1]::integer AS customer,
                       owner_tenants[t.f[1]::integer] AS tenant_id,
                       owner_wallets[t.f[1]::integer] AS wallet_id, t.f[2] AS asset,
                       t.f[3]::numeric AS atoms, t.f[4]::timestamptz AS last_time
                  FROM (
                      SELECT string_to_array(s.line, E'\x1f', E'\x1d') AS f, s.number
                        FROM string_to_table(p_purses, E'\x1e') WITH ORDINALITY
                             AS s (line, number)
                      OFFSET 0
                  ) AS t
                OFFSET 0
            ) AS p
            LEFT JOIN LATERAL (
                SELECT u.ctid AS place, u.restricted_grants, u.next_change_time, u.overdrawn,
                       u.held_unbacked,
                       u.credited + u.overdrawn - u.debited - u.held - u.dormant AS funds,
                       u.credited + u.overdrawn - u.debited - u.held - u.dormant
                           + greatest(u.floor - u.overdrawn, 0) AS spendable,
                       u.credited - u.debited - u.held - u.dormant + u.floor AS available
                  FROM balances AS u
                 WHERE u.tenant_id = p.tenant_id AND u.wallet_id = p.wallet_id
                   AND u.asset = p.asset
                OFFSET 0
            ) AS b ON true
            LEFT JOIN LATERAL (
                SELECT max(u.sequence) AS sequence, max(u.change_time) AS change_time
                  FROM balances AS u
                 WHERE u.tenant_id = p.tenant_id AND u.wallet_id = p.wallet_id
                OFFSET 0
            ) AS m ON true
            LEFT JOIN LATERAL (
                SELECT u.ctid AS place, u.grant_id, u.remaining - u.held AS free
                  FROM grants AS u
                 WHERE NOT captures AND u.tenant_id = p.tenant_id AND u.wallet_id = p.wallet_id
                   AND u.asset = p.asset AND u.open AND NOT u.dormant AND u.remaining > u.held
                 ORDER BY u.tenant_id, u.wallet_id, u.asset, u.priority, u.breadth,
                          u.expire_time, u.cost_basis, u.effective_time, u.create_time,
                          u.grant_id
                 LIMIT 1
            ) AS g ON true
            LEFT JOIN LATERAL (
                SELECT u.threshold FROM recharge_rules AS u
                 WHERE u.tenant_id = p.tenant_id AND u.wallet_id = p.wallet_id
                   AND u.asset = p.asset AND u.enabled
                OFFSET 0
            ) AS r ON true
            LEFT JOIN LATERAL (
                SELECT u.threshold, u.armed FROM balance_alerts AS u
                 WHERE u.tenant_id = p.tenant_id AND u.wallet_id = p.wallet_id
                   AND u.asset = p.asset
                OFFSET 0
            ) AS l ON true
           ORDER BY p.number
      ) AS q;
END $$
--;
-- Debits and holds. Rows of p_items: purse's number, customer's number, customer, asset, scale, kind
-- (2 debit, 3 hold), key, atoms, fingerprint, reference, the tenant's clock if it has one, and of a
-- hold its id, meter, feature, product and time to live. Answers those that were done, by their place
-- in p_items from one.
CREATE FUNCTION wallet.spend_plain(
    p_customers text, p_purses text, p_items text,
    OUT places bigint[], OUT wallets text[], OUT numbers bigint[], OUT lefts text[],
    OUT instants timestamptz[]
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = wallet, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off
AS $$
DECLARE
    clock timestamptz;
    oks boolean[];
    p_tenants uuid[];
    p_wallets uuid[];
    p_sequences bigint[];
    p_changed timestamptz[];
    p_places tid[];
    p_spendable numeric[];
    p_grants uuid[];
    p_grant_places tid[];
BEGIN
    SELECT w.clock, w.oks, w.tenants, w.wallets, w.sequences, w.change_times, w.places,
           w.spendables, w.grants, w.grant_places
      INTO clock, oks, p_tenants, p_wallets, p_sequences, p_changed, p_places, p_spendable,
           p_grants, p_grant_places
      FROM weigh_plain(p_customers, p_purses, false) AS w;

    WITH done AS MATERIALIZED (
        SELECT i.*, p_sequences[i.purse] + row_number() OVER wallet AS number,
               max(greatest(i.asked_time, p_changed[i.purse])) OVER wallet AS instant,
               p_spendable[i.purse] - sum(i.atoms) OVER purse AS left_over
          FROM (
              SELECT t.place, t.f, t.f[1]::integer AS purse, t.f[2]::integer AS customer,
                     t.f[6]::smallint AS kind, t.f[8]::numeric AS atoms,
                     coalesce(t.f[11]::timestamptz, clock) AS asked_time,
                     p_tenants[t.f[1]::integer] AS tenant_id,
                     p_wallets[t.f[1]::integer] AS wallet_id,
                     p_grants[t.f[1]::integer] AS grant_id
                FROM (
                    SELECT string_to_array(s.line, E'\x1f', E'\x1d') AS f, s.place
                      FROM string_to_table(p_items, E'\x1e') WITH ORDINALITY AS s (line, place)
                    OFFSET 0
                ) AS t
               WHERE oks[t.f[1]::integer]
              OFFSET 0
          ) AS i
        WINDOW wallet AS (PARTITION BY i.customer ORDER BY i.place ROWS UNBOUNDED PRECEDING),
               purse AS (PARTITION BY i.customer, i.purse ORDER BY i.place
                         ROWS UNBOUNDED PRECEDING)
    ), answered AS (
        INSERT INTO operations (tenant_id, request_id, kind, customer_id, reference, fingerprint,
                                outcome, create_time)
        SELECT d.tenant_id, d.f[7], d.kind, d.f[3], d.f[10], decode(d.f[9], 'hex'),
               CASE d.kind WHEN 2 THEN
                   concat('D|', d.f[4], '|', d.f[5], '|', d.f[8], '|0|', d.left_over, '||',
                          d.wallet_id, ',', d.f[8], ',', d.number)
               ELSE
                   'H' || json_build_array(
                       d.f[12], d.f[3], d.f[4], d.f[5]::integer, d.atoms, 0, 1, d.f[10],
                       d.instant, d.instant + make_interval(secs => d.f[16]::double precision),
                       d.left_over,
                       json_build_array(json_build_array(d.wallet_id, d.atoms, d.number)))
               END,
               d.asked_time
          FROM done AS d
    ), set_aside AS (
        INSERT INTO holds (tenant_id, hold_id, customer_id, wallet_id, asset, amount, captured,
                           state, meter, feature, product, reference, request_id, create_time,
                           expire_time, share_wallets, share_atoms, share_sequences, pin_wallets,
                           pin_grants, pin_atoms)
        SELECT d.tenant_id, d.f[12]::uuid, d.f[3], NULL, d.f[4], d.atoms, 0, 1, d.f[13], d.f[14],
               d.f[15], d.f[10], d.f[7], d.instant,
               d.instant + make_interval(secs => d.f[16]::double precision),
               ARRAY[d.wallet_id], ARRAY[d.atoms], ARRAY[d.number], ARRAY[d.wallet_id],
               ARRAY[d.grant_id], ARRAY[d.atoms]
          FROM done AS d
         WHERE d.kind = 3
    ), moved AS (
        INSERT INTO transfers (tenant_id, wallet_id, sequence, kind, asset, atoms, debit_account,
                               credit_account, request_id, grant_ids, grant_atoms, create_time)
        SELECT d.tenant_id, d.wallet_id, d.number, d.kind, d.f[4], d.atoms, 1,
               CASE d.kind WHEN 2 THEN 10 ELSE 2 END, d.f[7], ARRAY[d.grant_id],
               ARRAY[d.atoms], d.instant
          FROM done AS d
    ), spent AS MATERIALIZED (
        SELECT d.purse, max(d.number) AS number, max(d.instant) AS instant,
               coalesce(sum(d.atoms) FILTER (WHERE d.kind = 2), 0) AS debits,
               coalesce(sum(d.atoms) FILTER (WHERE d.kind = 3), 0) AS holds
          FROM done AS d
         GROUP BY d.purse
    ), paid AS (
        UPDATE balances AS b
           SET debited = b.debited + e.debits, held = b.held + e.holds, sequence = e.number,
               change_time = e.instant
          FROM spent AS e
         WHERE b.ctid = p_places[e.purse]
    ), burnt AS (
        UPDATE grants AS g
           SET remaining = g.remaining - e.debits, held = g.held + e.holds,
               open = g.remaining > e.debits
          FROM spent AS e
         WHERE g.ctid = p_grant_places[e.purse]
    )
    SELECT array_agg(d.place), array_agg(d.wallet_id::text), array_agg(d.number),
           array_agg(d.left_over::text), array_agg(d.instant)
      INTO places, wallets, numbers, lefts, instants
      FROM done AS d;
END $$
--;
-- Captures of holds that one grant backs, up to what is held. Rows of p_items: purse's number,
-- customer's number, asset, scale, kind (4 capture, 2 a debit that names a hold), key, atoms,
-- fingerprint, reference, the tenant's clock if it has one, hold, and whether it is final. A hold
-- stands once in a batch. Answers as spend_plain does.
CREATE FUNCTION wallet.capture_plain(
    p_customers text, p_purses text, p_items text,
    OUT places bigint[], OUT wallets text[], OUT numbers bigint[], OUT lefts text[],
    OUT instants timestamptz[]
)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = wallet, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off
AS $$
DECLARE
    clock timestamptz;
    oks boolean[];
    p_tenants uuid[];
    p_wallets uuid[];
    p_sequences bigint[];
    p_changed timestamptz[];
    p_places tid[];
    p_spendable numeric[];
BEGIN
    SELECT w.clock, w.oks, w.tenants, w.wallets, w.sequences, w.change_times, w.places,
           w.spendables
      INTO clock, oks, p_tenants, p_wallets, p_sequences, p_changed, p_places, p_spendable
      FROM weigh_plain(p_customers, p_purses, true) AS w;

    WITH weighed AS (
        SELECT i.*, h.place AS hold_place, h.customer_id, h.pin_atoms[1] AS pinned,
               h.pin_grants[1] AS grant_id, g.place AS grant_place,
               CASE WHEN i.final THEN h.pin_atoms[1] - i.atoms ELSE 0 END AS released,
               bool_and(coalesce(
                   h.state = 1 AND h.budget_path IS NULL AND h.asset = i.f[3]
                   AND h.pin_wallets = ARRAY[i.wallet_id]
                   AND least(h.expire_time, g.expire_time) > i.last_time
                   AND (i.atoms < h.pin_atoms[1] OR i.final AND i.atoms = h.pin_atoms[1]),
                   false)) OVER (PARTITION BY i.customer) AS ok
          FROM (
              SELECT s.*, max(greatest(s.asked_time, p_changed[s.purse]))
                              OVER (PARTITION BY s.customer) AS last_time
                FROM (
                    SELECT t.place, t.f, t.f[1]::integer AS purse, t.f[2]::integer AS customer,
                           t.f[7]::numeric AS atoms,
                           coalesce(t.f[10]::timestamptz, clock) AS asked_time,
                           t.f[12]::boolean AS final, p_tenants[t.f[1]::integer] AS tenant_id,
                           p_wallets[t.f[1]::integer] AS wallet_id
                      FROM (
                          SELECT string_to_array(s.line, E'\x1f', E'\x1d') AS f, s.place
                            FROM string_to_table(p_items, E'\x1e') WITH ORDINALITY
                                 AS s (line, place)
                          OFFSET 0
                      ) AS t
                     WHERE oks[t.f[1]::integer]
                    OFFSET 0
                ) AS s
          ) AS i
          LEFT JOIN LATERAL (
              -- The state is looked at outside, lest the few open holds be searched for the one.
              SELECT u.ctid AS place, u.customer_id, u.asset, u.state, u.expire_time,
                     u.pin_wallets, u.pin_grants, u.pin_atoms, u.budget_path
                FROM holds AS u
               WHERE u.tenant_id = i.tenant_id AND u.hold_id = i.f[11]::uuid
              OFFSET 0
          ) AS h ON true
          LEFT JOIN LATERAL (
              SELECT u.ctid AS place, u.expire_time FROM grants AS u
               WHERE u.tenant_id = i.tenant_id AND u.wallet_id = i.wallet_id
                 AND u.grant_id = h.pin_grants[1]
              OFFSET 0
          ) AS g ON true
    ), done AS MATERIALIZED (
        SELECT w.*, p_spendable[w.purse] + sum(w.released) OVER purse AS left_over,
               p_sequences[w.purse] + sum(1 + (w.released > 0)::integer) OVER wallet
                   - (w.released > 0)::integer AS number,
               max(greatest(w.asked_time, p_changed[w.purse])) OVER wallet AS instant
          FROM weighed AS w
         WHERE w.ok
        WINDOW wallet AS (PARTITION BY w.customer ORDER BY w.place ROWS UNBOUNDED PRECEDING),
               purse AS (PARTITION BY w.customer, w.purse ORDER BY w.place
                         ROWS UNBOUNDED PRECEDING)
    ), answered AS (
        INSERT INTO operations (tenant_id, request_id, kind, customer_id, reference, fingerprint,
                                outcome, create_time)
        SELECT d.tenant_id, d.f[6], d.f[5]::smallint, d.customer_id, d.f[9], decode(d.f[8], 'hex'),
               concat('D|', d.f[3], '|', d.f[4], '|', d.f[7], '|0|', d.left_over, '||',
                      d.wallet_id, ',', d.f[7], ',', d.number),
               d.asked_time
          FROM done AS d
    ), moved AS (
        INSERT INTO transfers (tenant_id, wallet_id, sequence, kind, asset, atoms, debit_account,
                               credit_account, request_id, grant_ids, grant_atoms, create_time)
        SELECT d.tenant_id, d.wallet_id, d.number + m.step, m.kind, d.f[3], m.atoms, 2, m.account,
               d.f[6], ARRAY[d.grant_id], ARRAY[m.atoms], d.instant
          FROM done AS d
         CROSS JOIN LATERAL (
             VALUES (0, 4, d.atoms, 10), (1, 5, d.released, 1)
         ) AS m (step, kind, atoms, account)
         WHERE m.atoms > 0
    ), ended AS (
        UPDATE holds AS h
           SET captured = h.captured + d.atoms,
               state = CASE WHEN d.final THEN 2 ELSE 1 END,
               end_time = CASE WHEN d.final THEN d.instant END,
               pin_wallets = CASE WHEN d.final THEN '{}' ELSE h.pin_wallets END,
               pin_grants = CASE WHEN d.final THEN '{}' ELSE h.pin_grants END,
               pin_atoms = CASE WHEN d.final THEN '{}' ELSE ARRAY[d.pinned - d.atoms] END
          FROM done AS d
         WHERE h.ctid = d.hold_place
    ), used AS MATERIALIZED (
        SELECT d.purse, max(d.number + (d.released > 0)::integer) AS number,
               max(d.instant) AS instant, sum(d.atoms) AS atoms, sum(d.released) AS released
          FROM done AS d
         GROUP BY d.purse
    ), paid AS (
        UPDATE balances AS b
           SET debited = b.debited + e.atoms, held = b.held - e.atoms - e.released,
               sequence = e.number, change_time = e.instant
          FROM used AS e
         WHERE b.ctid = p_places[e.purse]
    ), burnt AS (
        UPDATE grants AS g
           SET remaining = g.remaining - u.atoms, held = g.held - u.atoms - u.released,
               open = g.remaining > u.atoms
          FROM (
              SELECT d.grant_place, sum(d.atoms) AS atoms, sum(d.released) AS released
                FROM done AS d
               GROUP BY d.grant_place
          ) AS u
         WHERE g.ctid = u.grant_place
    )
    SELECT array_agg(d.place), array_agg(d.wallet_id::text), array_agg(d.number),
           array_agg(d.left_over::text), array_agg(d.instant)
      INTO places, wallets, numbers, lefts, instants
      FROM done AS d;
END $$
