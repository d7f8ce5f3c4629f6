"""Provider accounts, methods, payments with their attempts, and notifications."""

from alembic import op

from chassis.migrations import chassis_tables, grant, own, protect, reveal

revision = "0001"
down_revision = None

SCHEMA, APP, SWEEPER = "gateway", "gateway_app", "gateway_sweeper"

PROVIDER_ACCOUNT = """
CREATE TABLE gateway.provider_account (
    tenant_id uuid NOT NULL,
    provider_account_id uuid NOT NULL,
    code text NOT NULL CONSTRAINT code_is_short CHECK (code ~ '^[A-Za-z0-9_-]{1,64}$'),
    provider text NOT NULL,
    endpoint text NOT NULL,
    -- References, never secrets: the row may be read by whoever reads the database.
    secret_reference text NOT NULL
        CONSTRAINT secret_is_a_reference CHECK (secret_reference ~ '^(file:.+)?$'),
    notification_secret_reference text NOT NULL CONSTRAINT notification_secret_is_a_reference
        CHECK (notification_secret_reference ~ '^(file:.+)?$'),
    state text NOT NULL
        CONSTRAINT state_is_known CHECK (state IN ('ACTIVE', 'DEGRADED', 'DISABLED')),
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, provider_account_id),
    CONSTRAINT one_provider_account_per_code UNIQUE (tenant_id, code)
);
-- A notification names its account before its tenant is known.
CREATE INDEX provider_account_by_id ON gateway.provider_account (provider_account_id)
"""

PAYMENT_METHOD = """
CREATE TABLE gateway.payment_method (
    tenant_id uuid NOT NULL,
    payment_method_id uuid NOT NULL,
    customer_id text NOT NULL,
    provider_account_id uuid NOT NULL,
    provider_token text NOT NULL,
    label text NOT NULL,
    is_default boolean NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, payment_method_id),
    FOREIGN KEY (tenant_id, provider_account_id) REFERENCES gateway.provider_account,
    CONSTRAINT a_token_is_attached_to_a_customer_once
        UNIQUE (tenant_id, customer_id, provider_account_id, provider_token)
);
CREATE UNIQUE INDEX one_default_method_per_customer
    ON gateway.payment_method (tenant_id, customer_id) WHERE is_default
"""

PAYMENT = """
CREATE TABLE gateway.payment (
    tenant_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    customer_id text NOT NULL,
    asset text NOT NULL,
    minor_digits smallint NOT NULL,
    atoms numeric(38, 0) NOT NULL CONSTRAINT amount_is_above_zero CHECK (atoms > 0),
    source_kind text NOT NULL,
    source_id text NOT NULL,
    description text NOT NULL,
    state text NOT NULL CONSTRAINT state_is_known CHECK (state IN (
        'OPEN', 'PROCESSING', 'ACTION_REQUIRED', 'AUTHORIZED', 'SUCCEEDED', 'REVERSED', 'CANCELED'
    )),
    outcome_unknown boolean NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, payment_id)
);
CREATE INDEX payment_by_time ON gateway.payment (tenant_id, create_time, payment_id);
CREATE INDEX payment_by_customer
    ON gateway.payment (tenant_id, customer_id, create_time, payment_id);
CREATE INDEX payment_by_source ON gateway.payment (tenant_id, source_kind, source_id)
"""

ATTEMPT = """
CREATE TABLE gateway.attempt (
    tenant_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    number integer NOT NULL CONSTRAINT attempts_are_numbered_from_one CHECK (number >= 1),
    provider_account_id uuid NOT NULL,
    payment_method_id uuid NOT NULL,
    state text NOT NULL CONSTRAINT state_is_known CHECK (state IN (
        'REQUESTED', 'UNKNOWN', 'ACTION_REQUIRED', 'PROCESSING', 'AUTHORIZED', 'SUCCEEDED',
        'DECLINED', 'FAILED', 'CANCELED', 'REVERSED'
    )),
    provider_payment_id text NOT NULL DEFAULT '',
    stated_asset text,
    stated_atoms numeric(38, 0),
    decline_code text NOT NULL DEFAULT '',
    decline_class text CONSTRAINT decline_class_is_known CHECK (decline_class IN (
        'SOFT', 'TECHNICAL', 'ACTION_REQUIRED', 'HARD', 'FRAUD'
    )),
    action_url text NOT NULL DEFAULT '',
    action_expire_time timestamptz,
    told text[] NOT NULL DEFAULT '{}',
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, attempt_id),
    FOREIGN KEY (tenant_id, payment_id) REFERENCES gateway.payment,
    FOREIGN KEY (tenant_id, payment_method_id) REFERENCES gateway.payment_method,
    FOREIGN KEY (tenant_id, provider_account_id) REFERENCES gateway.provider_account,
    CONSTRAINT attempts_of_a_payment_are_counted UNIQUE (tenant_id, payment_id, number),
    CONSTRAINT a_stated_amount_has_a_currency
        CHECK ((stated_asset IS NULL) = (stated_atoms IS NULL))
);
CREATE UNIQUE INDEX one_live_attempt_per_intent ON gateway.attempt (tenant_id, payment_id)
    WHERE state IN ('REQUESTED', 'UNKNOWN', 'ACTION_REQUIRED', 'PROCESSING', 'AUTHORIZED');
CREATE INDEX attempt_by_provider_payment
    ON gateway.attempt (tenant_id, provider_account_id, provider_payment_id)
    WHERE provider_payment_id <> '';
CREATE INDEX attempt_declined ON gateway.attempt (tenant_id, payment_method_id, update_time)
    WHERE state = 'DECLINED'
"""

OPERATION = """
CREATE TABLE gateway.operation (
    tenant_id uuid NOT NULL,
    operation_id uuid NOT NULL,
    kind text NOT NULL CONSTRAINT kind_is_known CHECK (kind IN ('CHARGE')),
    target_id uuid NOT NULL,
    provider_account_id uuid NOT NULL,
    -- A random UUID: 36 characters of [0-9a-f-] satisfy every provider, and nobody guesses it.
    idempotency_key text NOT NULL
        CONSTRAINT idempotency_key_is_a_uuid CHECK (idempotency_key ~ '^[0-9a-f-]{36}$'),
    reference text NOT NULL
        CONSTRAINT reference_fits_providers CHECK (reference ~ '^[A-Za-z0-9_-]{1,40}$'),
    fingerprint bytea NOT NULL CONSTRAINT fingerprint_is_sha256 CHECK (length(fingerprint) = 32),
    state text NOT NULL CONSTRAINT state_is_known CHECK (state IN ('OPEN', 'DONE')),
    notes jsonb NOT NULL DEFAULT '{}',
    -- Until then nobody else takes it up: it is being worked on, or need not be asked about yet.
    lease_until timestamptz NOT NULL,
    tries integer NOT NULL DEFAULT 0,
    start_time timestamptz NOT NULL,
    sent_time timestamptz NOT NULL,
    asks integer NOT NULL DEFAULT 0,
    unknown_since timestamptz,
    empty_find_time timestamptz,
    handed_over boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, operation_id),
    CONSTRAINT one_operation_of_a_kind_per_target UNIQUE (tenant_id, target_id, kind)
);
CREATE INDEX operation_due ON gateway.operation (lease_until) WHERE state = 'OPEN';
CREATE INDEX operation_unknown ON gateway.operation (unknown_since)
    WHERE state = 'OPEN' AND unknown_since IS NOT NULL
"""

EVIDENCE = """
CREATE TABLE gateway.evidence (
    tenant_id uuid NOT NULL,
    evidence_id uuid NOT NULL,
    attempt_id uuid NOT NULL,
    witness text NOT NULL,
    finding text NOT NULL,
    from_state text NOT NULL,
    to_state text NOT NULL,
    alerts text[] NOT NULL DEFAULT '{}',
    detail text NOT NULL DEFAULT '',
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, evidence_id),
    FOREIGN KEY (tenant_id, attempt_id) REFERENCES gateway.attempt
);
CREATE INDEX evidence_of_attempt ON gateway.evidence (tenant_id, attempt_id, evidence_id)
"""

PROVIDER_CALL = """
CREATE TABLE gateway.provider_call (
    tenant_id uuid NOT NULL,
    provider_call_id uuid NOT NULL,
    operation_id uuid NOT NULL,
    method text NOT NULL,
    path text NOT NULL,
    request_digest text NOT NULL,
    status integer NOT NULL,
    answer_digest text NOT NULL,
    provider_request_id text NOT NULL,
    silence text NOT NULL,
    duration_ms integer NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, provider_call_id),
    FOREIGN KEY (tenant_id, operation_id) REFERENCES gateway.operation
);
CREATE INDEX provider_call_of_operation
    ON gateway.provider_call (tenant_id, operation_id, provider_call_id)
"""

NOTIFICATION = """
CREATE TABLE gateway.notification (
    tenant_id uuid NOT NULL,
    notification_id uuid NOT NULL,
    provider_account_id uuid NOT NULL,
    provider_item_id text NOT NULL,
    kind text NOT NULL,
    headers jsonb NOT NULL,
    body bytea,
    body_digest bytea NOT NULL CONSTRAINT digest_is_sha256 CHECK (length(body_digest) = 32),
    state text NOT NULL CONSTRAINT state_is_known
        CHECK (state IN ('RECEIVED', 'APPLIED', 'IGNORED', 'DEAD', 'REFUSED')),
    tries integer NOT NULL DEFAULT 0,
    error text NOT NULL DEFAULT '',
    receive_time timestamptz NOT NULL,
    next_try_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, notification_id),
    FOREIGN KEY (tenant_id, provider_account_id) REFERENCES gateway.provider_account,
    CONSTRAINT what_is_refused_keeps_no_body CHECK (state <> 'REFUSED' OR body IS NULL)
);
CREATE UNIQUE INDEX a_notification_is_kept_once
    ON gateway.notification (tenant_id, provider_account_id, provider_item_id)
    WHERE state <> 'REFUSED';
CREATE INDEX notification_due ON gateway.notification (next_try_time) WHERE state = 'RECEIVED';
CREATE INDEX notification_refused
    ON gateway.notification (tenant_id, provider_account_id, receive_time) WHERE state = 'REFUSED'
"""

# Jobs serve every tenant: they learn ids here, and look at rows as the tenant afterwards.
OPERATIONS_DUE = """
CREATE FUNCTION gateway.operations_due(present timestamptz, count_max integer)
RETURNS TABLE (tenant_id uuid, operation_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = gateway, pg_temp AS $$
    SELECT o.tenant_id, o.operation_id
      FROM operation AS o
     WHERE o.state = 'OPEN' AND o.lease_until <= present
     ORDER BY o.lease_until
     LIMIT count_max
$$
"""

OPERATIONS_UNKNOWN = """
CREATE FUNCTION gateway.operations_unknown(OUT number bigint, OUT oldest timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = gateway, pg_temp AS $$
    SELECT count(*), min(o.unknown_since)
      FROM operation AS o
     WHERE o.state = 'OPEN' AND o.unknown_since IS NOT NULL
$$
"""

NOTIFICATIONS_DUE = """
CREATE FUNCTION gateway.notifications_due(present timestamptz, count_max integer)
RETURNS TABLE (tenant_id uuid, notification_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = gateway, pg_temp AS $$
    SELECT n.tenant_id, n.notification_id
      FROM notification AS n
     WHERE n.state = 'RECEIVED' AND n.next_try_time <= present
     ORDER BY n.next_try_time
     LIMIT count_max
$$
"""

# A notification says whose it is only by the address it is sent to.
TENANT_OF_PROVIDER_ACCOUNT = """
CREATE FUNCTION gateway.tenant_of_provider_account(wanted uuid) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = gateway, pg_temp AS $$
    SELECT a.tenant_id FROM provider_account AS a WHERE a.provider_account_id = wanted
$$
"""

PRIVILEGES = {
    "provider_account": "SELECT, INSERT, UPDATE (state)",
    "payment_method": "SELECT, INSERT, UPDATE (is_default)",
    "payment": "SELECT, INSERT, UPDATE (state, outcome_unknown, update_time)",
    "attempt": (
        "SELECT, INSERT, UPDATE (state, provider_payment_id, stated_asset, stated_atoms,"
        " decline_code, decline_class, action_url, action_expire_time, told, update_time)"
    ),
    "operation": (
        "SELECT, INSERT, UPDATE (state, notes, lease_until, tries, sent_time, asks,"
        " unknown_since, empty_find_time, handed_over)"
    ),
    # Evidence is what an auditor reads: it is added to, never changed.
    "evidence": "SELECT, INSERT",
    "provider_call": "SELECT, INSERT",
    "notification": "SELECT, INSERT, UPDATE (state, tries, error, next_try_time)",
}


def upgrade() -> None:
    chassis_tables(op, SCHEMA, APP)
    tables = (
        PROVIDER_ACCOUNT,
        PAYMENT_METHOD,
        PAYMENT,
        ATTEMPT,
        OPERATION,
        EVIDENCE,
        PROVIDER_CALL,
        NOTIFICATION,
    )
    for text in tables:
        for statement in text.split(";\n"):
            op.execute(statement)
    for table, privileges in PRIVILEGES.items():
        protect(op, SCHEMA, table)
        grant(op, APP, f"{SCHEMA}.{table}", privileges)
    for table in ("provider_account", "operation", "notification"):
        reveal(op, SCHEMA, table, SWEEPER)
        grant(op, SWEEPER, f"{SCHEMA}.{table}", "SELECT")
    for function, signature in (
        (OPERATIONS_DUE, "operations_due(timestamptz, integer)"),
        (OPERATIONS_UNKNOWN, "operations_unknown()"),
        (NOTIFICATIONS_DUE, "notifications_due(timestamptz, integer)"),
        (TENANT_OF_PROVIDER_ACCOUNT, "tenant_of_provider_account(uuid)"),
    ):
        op.execute(function)
        own(op, SCHEMA, signature, SWEEPER, APP)
