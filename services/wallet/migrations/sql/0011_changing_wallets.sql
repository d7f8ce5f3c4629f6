ALTER TABLE wallet.wallets
    -- What a capture above what is held does where it does not say so itself.
    ADD COLUMN over_capture smallint NOT NULL DEFAULT 1
        CONSTRAINT over_capture_is_known CHECK (over_capture BETWEEN 1 AND 4),
    -- Why and when the wallet came into its state.
    ADD COLUMN state_cause text NOT NULL DEFAULT '',
    ADD COLUMN state_time timestamptz
--;
-- Sets how far below zero a wallet's balances may go: those of the given assets, and no other.
-- Where more is overdrawn than that, the difference counts as forced debt until it is settled.
-- Called in the wallet's tenant's own transaction, with the wallet locked.
CREATE FUNCTION wallet.set_overdrafts(
    p_wallet uuid, p_assets text[], p_floors text[], p_time timestamptz
) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
DECLARE
    tenant CONSTANT uuid := current_setting('tollgate.tenant_id')::uuid;
BEGIN
    INSERT INTO balances (tenant_id, wallet_id, asset, floor, change_time)
    SELECT w.tenant_id, w.wallet_id, i.asset, 0, p_time
      FROM unnest(p_assets) AS i (asset)
      JOIN wallets AS w ON w.tenant_id = tenant AND w.wallet_id = p_wallet
        ON CONFLICT DO NOTHING;
    UPDATE balances AS b
       SET floor = n.floor,
           forced = greatest(0, b.overdrawn - n.floor, b.debited + b.held - b.credited - n.floor)
      FROM (
          SELECT u.asset, coalesce((SELECT i.floor::numeric
                                      FROM unnest(p_assets, p_floors) AS i (asset, floor)
                                     WHERE i.asset = u.asset), 0) AS floor
            FROM balances AS u WHERE u.tenant_id = tenant AND u.wallet_id = p_wallet
      ) AS n
     WHERE b.tenant_id = tenant AND b.wallet_id = p_wallet AND b.asset = n.asset
       AND b.floor <> n.floor;
END $$
--;
-- What wallets do with a capture above what is held. p_wallets: pairs of tenant and wallet.
CREATE FUNCTION wallet.list_policies(p_wallets text)
RETURNS TABLE (tenant_id text, wallet_id text, over_capture smallint)
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
    SELECT w.tenant_id::text, w.wallet_id::text, w.over_capture
      FROM id_pairs(p_wallets) AS i
      JOIN wallets AS w ON w.tenant_id = i.first_id::uuid AND w.wallet_id = i.second_id::uuid
$$
