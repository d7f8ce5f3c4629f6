"""Hosted pages, customers at providers, and what is known of a stored method."""

from alembic import op

from chassis.migrations import grant, protect

revision = "0003"
down_revision = "0002"

SCHEMA, APP = "gateway", "gateway_app"

CHANGES = """
ALTER TABLE gateway.attempt ALTER COLUMN payment_method_id DROP NOT NULL;
ALTER TABLE gateway.payment_method
    ADD COLUMN kind text NOT NULL DEFAULT '',
    ADD COLUMN brand text NOT NULL DEFAULT '',
    ADD COLUMN last_four text NOT NULL DEFAULT ''
        CONSTRAINT at_most_four_digits_are_kept CHECK (last_four ~ '^[0-9]{0,4}$'),
    ADD COLUMN expire_year integer NOT NULL DEFAULT 0,
    ADD COLUMN expire_month integer NOT NULL DEFAULT 0
        CONSTRAINT a_month_is_one_of_twelve CHECK (expire_month BETWEEN 0 AND 12),
    ADD COLUMN provider_customer_id text NOT NULL DEFAULT '',
    ADD COLUMN detach_time timestamptz
"""

CUSTOMER_LINK = """
CREATE TABLE gateway.customer_link (
    tenant_id uuid NOT NULL,
    provider_account_id uuid NOT NULL,
    customer_id text NOT NULL,
    provider_customer_id text NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, provider_account_id, customer_id),
    FOREIGN KEY (tenant_id, provider_account_id) REFERENCES gateway.provider_account
)
"""

SESSION = """
CREATE TABLE gateway.session (
    tenant_id uuid NOT NULL,
    session_id uuid NOT NULL,
    mode text NOT NULL CONSTRAINT mode_is_known CHECK (mode IN ('PAY', 'SETUP')),
    customer_id text NOT NULL,
    provider_account_id uuid NOT NULL,
    payment_id uuid,
    attempt_id uuid,
    asset text NOT NULL,
    -- Of a page where a method is stored; of one where a person pays, the attempt tells.
    state text NOT NULL CONSTRAINT state_is_known CHECK (state IN (
        'REQUESTED', 'OPEN', 'COMPLETED', 'EXPIRED', 'CANCELED'
    )),
    idempotency_key text NOT NULL
        CONSTRAINT idempotency_key_is_a_uuid CHECK (idempotency_key ~ '^[0-9a-f-]{36}$'),
    provider_session_id text NOT NULL DEFAULT '',
    provider_customer_id text NOT NULL DEFAULT '',
    url text NOT NULL DEFAULT '',
    return_url text NOT NULL,
    contact jsonb NOT NULL,
    country text NOT NULL,
    notes jsonb NOT NULL DEFAULT '{}',
    expire_time timestamptz,
    payment_method_id uuid,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, session_id),
    FOREIGN KEY (tenant_id, provider_account_id) REFERENCES gateway.provider_account,
    FOREIGN KEY (tenant_id, payment_id) REFERENCES gateway.payment,
    FOREIGN KEY (tenant_id, attempt_id) REFERENCES gateway.attempt,
    FOREIGN KEY (tenant_id, payment_method_id) REFERENCES gateway.payment_method,
    CONSTRAINT a_page_to_pay_on_is_an_attempt CHECK ((mode = 'PAY') = (attempt_id IS NOT NULL))
);
CREATE UNIQUE INDEX one_page_per_attempt ON gateway.session (tenant_id, attempt_id)
    WHERE attempt_id IS NOT NULL;
CREATE INDEX session_by_provider_id
    ON gateway.session (tenant_id, provider_account_id, provider_session_id)
    WHERE provider_session_id <> ''
"""


def upgrade() -> None:
    for text in (CHANGES, CUSTOMER_LINK, SESSION):
        for statement in text.split(";\n"):
            op.execute(statement)
    for table in ("customer_link", "session"):
        protect(op, SCHEMA, table)
    grant(op, APP, "gateway.customer_link", "SELECT, INSERT")
    grant(
        op,
        APP,
        "gateway.session",
        "SELECT, INSERT, UPDATE (state, provider_session_id, provider_customer_id, url, notes,"
        " expire_time, payment_method_id)",
    )
    grant(
        op,
        APP,
        "gateway.payment_method",
        "UPDATE (kind, brand, last_four, expire_year, expire_month, provider_customer_id,"
        " detach_time)",
    )
