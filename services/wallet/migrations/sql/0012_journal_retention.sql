-- Adds one day of the journal to the checkpoints. Called with that day locked, in the transaction
-- that detaches it: a day is counted once, as rows or as sums.
CREATE FUNCTION wallet.fold_day(p_partition regclass, p_start timestamptz, p_end timestamptz)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
DECLARE
    folded bigint;
BEGIN
    INSERT INTO journal_checkpoints AS c (tenant_id, wallet_id, asset, kind, debit_account,
           credit_account, atoms, unbacked_atoms, moves, last_sequence, last_time)
    SELECT t.tenant_id, t.wallet_id, t.asset, t.kind, t.debit_account, t.credit_account,
           sum(t.atoms), sum(coalesce(u.atoms, 0)), count(*), max(t.sequence), max(t.create_time)
      FROM transfers AS t
     CROSS JOIN LATERAL (
         SELECT sum(s.atoms) AS atoms
           FROM unnest(t.grant_ids, t.grant_atoms) AS s (grant_id, atoms)
          WHERE s.grant_id IS NULL
     ) AS u
     WHERE t.tableoid = p_partition AND t.record_time >= p_start AND t.record_time < p_end
     GROUP BY t.tenant_id, t.wallet_id, t.asset, t.kind, t.debit_account, t.credit_account
        ON CONFLICT (tenant_id, wallet_id, asset, kind, debit_account, credit_account) DO UPDATE
       SET atoms = c.atoms + excluded.atoms,
           unbacked_atoms = c.unbacked_atoms + excluded.unbacked_atoms,
           moves = c.moves + excluded.moves,
           last_sequence = greatest(c.last_sequence, excluded.last_sequence),
           last_time = greatest(c.last_time, excluded.last_time);
    INSERT INTO grant_checkpoints AS c (tenant_id, wallet_id, grant_id, asset, kind, debit_account,
           credit_account, atoms)
    SELECT t.tenant_id, t.wallet_id, s.grant_id, t.asset, t.kind, t.debit_account,
           t.credit_account, sum(s.atoms)
      FROM transfers AS t
     CROSS JOIN LATERAL unnest(t.grant_ids, t.grant_atoms) AS s (grant_id, atoms)
     WHERE t.tableoid = p_partition AND t.record_time >= p_start AND t.record_time < p_end
       AND s.grant_id IS NOT NULL
     GROUP BY t.tenant_id, t.wallet_id, s.grant_id, t.asset, t.kind, t.debit_account,
              t.credit_account
        ON CONFLICT (tenant_id, wallet_id, grant_id, kind, debit_account, credit_account)
        DO UPDATE SET atoms = c.atoms + excluded.atoms;
    SELECT count(*) INTO folded FROM transfers AS t
     WHERE t.tableoid = p_partition AND t.record_time >= p_start AND t.record_time < p_end;
    RETURN folded;
END $$
--;
-- Archives the journal's oldest day where it ended more than so many days ago: adds it to the
-- checkpoints and detaches it as wallet.archived_transfers_<day>. Answers the archived table's name,
-- or null where no day is that old. Detaching waits for those who write, and keeps others waiting,
-- for a second at most; then it gives up with nothing done.
CREATE FUNCTION wallet.archive_oldest_day(p_keep_days integer) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = wallet, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    day date;
    partition text;
    archived text;
BEGIN
    IF p_keep_days < 35 THEN
        RAISE EXCEPTION 'the journal keeps 35 days at least'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('wallet.extend_journal'));
    SELECT c.relname, to_date(right(c.relname, 8), 'YYYYMMDD') INTO partition, day
      FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'wallet.transfers'::regclass AND c.relname ~ '^transfers_[0-9]{8}$'
     ORDER BY c.relname LIMIT 1;
    IF day IS NULL OR day + 1 + p_keep_days > (clock_timestamp() AT TIME ZONE 'UTC')::date THEN
        RETURN NULL;
    END IF;
    EXECUTE format('LOCK TABLE wallet.%I IN SHARE MODE', partition);
    PERFORM wallet.fold_day(
        ('wallet.' || quote_ident(partition))::regclass,
        day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC'
    );
    archived := 'archived_' || partition;
    EXECUTE format('ALTER TABLE wallet.transfers DETACH PARTITION wallet.%I', partition);
    EXECUTE format('ALTER TABLE wallet.%I RENAME TO %I', partition, archived);
    -- What guarded it as a part of the journal went with the journal.
    EXECUTE format(
        'CREATE TRIGGER journal_is_append_only BEFORE UPDATE OR DELETE ON wallet.%I'
        ' FOR EACH ROW EXECUTE FUNCTION wallet.refuse_change()', archived
    );
    RETURN archived;
END $$
