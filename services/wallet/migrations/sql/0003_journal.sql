CREATE FUNCTION wallet.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = wallet, pg_temp AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$
--;
CREATE TRIGGER journal_is_append_only BEFORE UPDATE OR DELETE ON wallet.transfers
    FOR EACH ROW EXECUTE FUNCTION wallet.refuse_change()
--;
CREATE TRIGGER journal_is_not_emptied BEFORE TRUNCATE ON wallet.transfers
    FOR EACH STATEMENT EXECUTE FUNCTION wallet.refuse_change()
--;
CREATE TRIGGER outcomes_stand_for_ever BEFORE UPDATE OR DELETE ON wallet.operations
    FOR EACH ROW EXECUTE FUNCTION wallet.refuse_change()
--;
CREATE TRIGGER outcomes_are_not_emptied BEFORE TRUNCATE ON wallet.operations
    FOR EACH STATEMENT EXECUTE FUNCTION wallet.refuse_change()
--;
-- Guards one partition of the journal as the journal itself is.
CREATE FUNCTION wallet.guard_partition(partition regclass) RETURNS void
LANGUAGE plpgsql SET search_path = wallet, pg_temp AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', partition);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', partition);
    EXECUTE format(
        'CREATE POLICY own_tenant_only ON %s'
        ' USING (tenant_id = current_setting(''tollgate.tenant_id'')::uuid)'
        ' WITH CHECK (tenant_id = current_setting(''tollgate.tenant_id'')::uuid)', partition
    );
    EXECUTE format(
        'CREATE TRIGGER journal_is_not_emptied BEFORE TRUNCATE ON %s'
        ' FOR EACH STATEMENT EXECUTE FUNCTION wallet.refuse_change()', partition
    );
END $$
--;
-- Takes rows of days that nobody made in time; empty in a healthy system.
CREATE TABLE wallet.transfers_default PARTITION OF wallet.transfers DEFAULT
--;
SELECT wallet.guard_partition('wallet.transfers_default')
--;
-- Makes the journal's days from yesterday to so many ahead; returns how many were missing.
CREATE FUNCTION wallet.extend_journal(days_ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
DECLARE
    first_day date;
    partition text;
    made integer := 0;
BEGIN
    -- One at a time: two would make the same day.
    PERFORM pg_advisory_xact_lock(hashtext('wallet.extend_journal'));
    FOR offset_days IN -1 .. days_ahead LOOP
        first_day := (clock_timestamp() AT TIME ZONE 'UTC')::date + offset_days;
        partition := 'transfers_' || to_char(first_day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass('wallet.' || partition) IS NOT NULL;
        -- Made apart and then attached, which takes a weaker lock on the journal than
        -- PARTITION OF: writers of today go on.
        EXECUTE format('CREATE TABLE wallet.%I (LIKE wallet.transfers INCLUDING ALL)', partition);
        PERFORM wallet.guard_partition(('wallet.' || quote_ident(partition))::regclass);
        EXECUTE format(
            'ALTER TABLE wallet.transfers ATTACH PARTITION wallet.%I'
            ' FOR VALUES FROM (%L) TO (%L)', partition,
            first_day::timestamp AT TIME ZONE 'UTC',
            (first_day + 1)::timestamp AT TIME ZONE 'UTC'
        );
        made := made + 1;
    END LOOP;
    RETURN made;
END $$
--;
SELECT wallet.extend_journal(7)
