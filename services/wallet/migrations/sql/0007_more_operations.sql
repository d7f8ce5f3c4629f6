-- What may move, and between which accounts: increases of holds, voids, reversals, corrections,
-- conversions and rollovers beside what there was. Checked for new rows at once, for old ones
-- without holding up those who write.
ALTER TABLE wallet.transfers
    DROP CONSTRAINT transfer_kind_is_known,
    DROP CONSTRAINT accounts_are_known
--;
ALTER TABLE wallet.transfers
    ADD CONSTRAINT transfer_kind_is_known CHECK (kind BETWEEN 1 AND 13) NOT VALID,
    ADD CONSTRAINT accounts_are_known CHECK (
        (debit_account BETWEEN 1 AND 3 OR debit_account BETWEEN 10 AND 19)
        AND (credit_account BETWEEN 1 AND 3 OR credit_account BETWEEN 10 AND 19)
    ) NOT VALID
--;
ALTER TABLE wallet.transfers VALIDATE CONSTRAINT transfer_kind_is_known
--;
ALTER TABLE wallet.transfers VALIDATE CONSTRAINT accounts_are_known
--;
ALTER TABLE wallet.operations
    DROP CONSTRAINT operation_kind_is_known,
    ADD CONSTRAINT operation_kind_is_known CHECK (kind BETWEEN 1 AND 11) NOT VALID
--;
ALTER TABLE wallet.operations VALIDATE CONSTRAINT operation_kind_is_known
--;
ALTER TABLE wallet.grants
    DROP CONSTRAINT grant_kind_is_known,
    ADD CONSTRAINT grant_kind_is_known CHECK (kind BETWEEN 1 AND 7) NOT VALID
--;
ALTER TABLE wallet.grants VALIDATE CONSTRAINT grant_kind_is_known
--;
-- Holds that were increased or lengthened in a batch, beside what record_batch writes of them.
CREATE FUNCTION wallet.grow_holds(p_holds text, p_count integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = wallet, pg_temp
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off
AS $$
DECLARE
    written bigint;
BEGIN
    UPDATE holds AS h
       SET amount = f[3]::numeric, expire_time = f[4]::timestamptz, share_wallets = f[5]::uuid[],
           share_atoms = f[6]::numeric[], share_sequences = f[7]::bigint[]
      FROM fields(p_holds) AS f
     CROSS JOIN LATERAL (
         SELECT u.ctid AS place FROM holds AS u
          WHERE u.tenant_id = f[1]::uuid AND u.hold_id = f[2]::uuid
         OFFSET 0
     ) AS k
     WHERE h.ctid = k.place;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written <> p_count THEN
        RAISE EXCEPTION 'a row moved without its lock: a hold';
    END IF;
END $$
