-- Opens a new wallet's balances for the assets it may overdraw. Called while the wallet is made, in
-- its tenant's own transaction.
CREATE FUNCTION wallet.open_overdrafts(
    p_wallet uuid, p_assets text[], p_floors text[], p_time timestamptz
) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
    INSERT INTO balances (tenant_id, wallet_id, asset, floor, change_time)
    SELECT current_setting('tollgate.tenant_id')::uuid, w.wallet_id, i.asset, i.floor::numeric,
           p_time
      FROM unnest(p_assets, p_floors) AS i (asset, floor)
      JOIN wallets AS w ON w.tenant_id = current_setting('tollgate.tenant_id')::uuid
                       AND w.wallet_id = p_wallet
$$
--;
-- Tenants that have wallets: ids alone, for the sweeper to ask each one's clock.
CREATE FUNCTION wallet.list_tenants(p_after text, p_count integer) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
    SELECT DISTINCT a.tenant_id::text FROM assets AS a
     WHERE p_after IS NULL OR a.tenant_id > p_after::uuid
     ORDER BY 1 LIMIT p_count
$$
--;
-- Wallets with a grant whose time has come, oldest first; of all tenants but some, or of one.
CREATE FUNCTION wallet.list_due_balances(
    p_tenant text, p_but text[], p_time timestamptz, p_count integer
) RETURNS TABLE (tenant_id text, wallet_id text, customer_id text, asset text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
    SELECT b.tenant_id::text, b.wallet_id::text, w.customer_id, b.asset
      FROM balances AS b
      JOIN wallets AS w ON w.tenant_id = b.tenant_id AND w.wallet_id = b.wallet_id
     WHERE b.next_change_time <= p_time AND b.next_change_time < 'infinity'
       AND (p_tenant IS NULL OR b.tenant_id = p_tenant::uuid)
       AND (p_but IS NULL OR b.tenant_id <> ALL (p_but::uuid[]))
     ORDER BY b.next_change_time LIMIT p_count
$$
--;
-- Open holds whose time is over, oldest first; of all tenants but some, or of one.
CREATE FUNCTION wallet.list_due_holds(
    p_tenant text, p_but text[], p_time timestamptz, p_count integer
) RETURNS TABLE (tenant_id text, hold_id text, customer_id text, asset text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = wallet, pg_temp AS $$
    SELECT h.tenant_id::text, h.hold_id::text, h.customer_id, h.asset
      FROM holds AS h
     WHERE h.state = 1 AND h.expire_time <= p_time
       AND (p_tenant IS NULL OR h.tenant_id = p_tenant::uuid)
       AND (p_but IS NULL OR h.tenant_id <> ALL (p_but::uuid[]))
     ORDER BY h.expire_time LIMIT p_count
$$
