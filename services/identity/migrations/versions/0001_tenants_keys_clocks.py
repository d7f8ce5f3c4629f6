"""Tenants, their API keys, their test clocks."""

from alembic import op

from chassis.migrations import chassis_tables, grant, own, protect, reveal

revision = "0001"
down_revision = None

SCHEMA, APP, SWEEPER = "identity", "identity_app", "identity_sweeper"

TABLES = """
CREATE TABLE identity.tenant (
    tenant_id uuid PRIMARY KEY,
    name text NOT NULL CONSTRAINT name_is_short CHECK (length(name) BETWEEN 1 AND 200),
    environment text NOT NULL
        CONSTRAINT environment_is_known CHECK (environment IN ('LIVE', 'TEST')),
    create_time timestamptz NOT NULL
);
CREATE INDEX tenant_by_age ON identity.tenant (create_time, tenant_id);

CREATE TABLE identity.api_key (
    tenant_id uuid NOT NULL REFERENCES identity.tenant,
    key_id uuid NOT NULL,
    name text NOT NULL CONSTRAINT name_is_short CHECK (length(name) BETWEEN 1 AND 100),
    scopes text[] NOT NULL CONSTRAINT scopes_are_few CHECK (cardinality(scopes) BETWEEN 1 AND 50),
    -- HMAC-SHA-256 of the secret part under the pepper of that number.
    secret_hash bytea NOT NULL CONSTRAINT hash_is_sha256 CHECK (length(secret_hash) = 32),
    pepper_number integer NOT NULL,
    create_time timestamptz NOT NULL,
    expire_time timestamptz,
    revoke_time timestamptz,
    last_use_time timestamptz,
    PRIMARY KEY (tenant_id, key_id)
);
-- A key is looked up before its tenant is known.
CREATE INDEX api_key_by_id ON identity.api_key (key_id);
CREATE INDEX api_key_by_name ON identity.api_key (tenant_id, name);

CREATE TABLE identity.test_clock (
    tenant_id uuid PRIMARY KEY REFERENCES identity.tenant,
    instant timestamptz NOT NULL,
    version bigint NOT NULL CONSTRAINT version_rises_from_one CHECK (version >= 1),
    create_time timestamptz NOT NULL
);
"""

CLOCK_RULE = """
CREATE FUNCTION identity.refuse_clock_going_back() RETURNS trigger
LANGUAGE plpgsql SET search_path = identity, pg_temp AS $$
BEGIN
    IF NEW.instant <= OLD.instant OR NEW.version <> OLD.version + 1 THEN
        RAISE EXCEPTION 'a test clock goes forward, one version at a time'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$
"""

# A credential says whose it is only after it has been looked up, and an operator lists tenants
# without being one: both look past the guard, each through a function that shows no more than that.
FIND_API_KEY = """
CREATE FUNCTION identity.find_api_key(wanted uuid)
RETURNS TABLE (
    tenant_id uuid, environment text, key_id uuid, scopes text[], secret_hash bytea,
    pepper_number integer, expire_time timestamptz, revoke_time timestamptz,
    last_use_time timestamptz
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT k.tenant_id, t.environment, k.key_id, k.scopes, k.secret_hash, k.pepper_number,
           k.expire_time, k.revoke_time, k.last_use_time
      FROM api_key AS k JOIN tenant AS t USING (tenant_id)
     WHERE k.key_id = wanted
$$
"""

LIST_TENANTS = """
CREATE FUNCTION identity.list_tenants(after_time timestamptz, after_id uuid, count_max integer)
RETURNS TABLE (tenant_id uuid, name text, environment text, create_time timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = identity, pg_temp AS $$
    SELECT t.tenant_id, t.name, t.environment, t.create_time
      FROM tenant AS t
     WHERE (t.create_time, t.tenant_id) > (after_time, after_id)
     ORDER BY t.create_time, t.tenant_id
     LIMIT count_max
$$
"""


def upgrade() -> None:
    chassis_tables(op, SCHEMA, APP)
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    op.execute(CLOCK_RULE)
    op.execute(
        "CREATE TRIGGER clock_goes_forward BEFORE UPDATE ON identity.test_clock"
        " FOR EACH ROW EXECUTE FUNCTION identity.refuse_clock_going_back()"
    )
    for table in ("tenant", "api_key", "test_clock"):
        protect(op, SCHEMA, table)
        grant(op, APP, f"{SCHEMA}.{table}", "SELECT, INSERT")
    grant(op, APP, "identity.api_key", "UPDATE (secret_hash, pepper_number)")
    grant(op, APP, "identity.api_key", "UPDATE (revoke_time, last_use_time)")
    grant(op, APP, "identity.test_clock", "UPDATE (instant, version)")
    for table in ("tenant", "api_key"):
        reveal(op, SCHEMA, table, SWEEPER)
        grant(op, SWEEPER, f"{SCHEMA}.{table}", "SELECT")
    op.execute(FIND_API_KEY)
    own(op, SCHEMA, "find_api_key(uuid)", SWEEPER, APP)
    op.execute(LIST_TENANTS)
    own(op, SCHEMA, "list_tenants(timestamptz, uuid, integer)", SWEEPER, APP)
