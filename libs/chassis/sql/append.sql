-- Appends messages of many tenants in one transaction that names none.
CREATE FUNCTION {schema}.outbox_append(
    tenant_ids uuid[], message_ids uuid[], kinds text[], payloads bytea[], sender_trace text
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    INSERT INTO outbox (tenant_id, message_id, kind, payload, trace)
    SELECT m.tenant_id, m.message_id, m.kind, m.payload, sender_trace
      FROM unnest(tenant_ids, message_ids, kinds, payloads)
           WITH ORDINALITY AS m (tenant_id, message_id, kind, payload, position)
     ORDER BY m.position
$$
