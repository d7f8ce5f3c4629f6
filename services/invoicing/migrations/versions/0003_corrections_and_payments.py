"""Void and reissue, one-off invoices, payments by hand, write-off."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, protect

revision = "0003"
down_revision = "0002"

APP = "invoicing_app"

# What was paid is a figure of its own, because a payment may be for part of what is due.
PAID = """
ALTER TABLE invoicing.invoice
    ADD COLUMN amount_paid numeric(38, 0) NOT NULL DEFAULT 0
        CONSTRAINT nothing_is_paid_below_zero CHECK (amount_paid >= 0),
    -- What the payment at the gateway was asked for; another amount takes another payment.
    ADD COLUMN payment_amount numeric(38, 0),
    ADD COLUMN reissue_of uuid,
    ADD COLUMN close_reason text NOT NULL DEFAULT '',
    ADD CONSTRAINT an_invoice_is_reissued_once UNIQUE (tenant_id, reissue_of),
    ADD CONSTRAINT reissues_name_an_invoice
        FOREIGN KEY (tenant_id, reissue_of) REFERENCES invoicing.invoice (tenant_id, invoice_id),
    DROP CONSTRAINT kind_is_known,
    ADD CONSTRAINT kind_is_known CHECK (kind IN ('SUBSCRIPTION', 'TOP_UP', 'ONE_OFF'))
"""

PAID_BEFORE = (
    "UPDATE invoicing.invoice SET amount_paid = total - balance_applied WHERE state = 'PAID'"
)

# The owner of a table is guarded too, and names no tenant: the guard is lifted for what looks at
# all rows.
UNGUARDED = "ALTER TABLE invoicing.invoice NO FORCE ROW LEVEL SECURITY"
GUARDED = "ALTER TABLE invoicing.invoice FORCE ROW LEVEL SECURITY"

DUE = """
ALTER TABLE invoicing.invoice
    DROP CONSTRAINT amount_due_is_within_the_total,
    ADD CONSTRAINT due_is_what_nobody_paid CHECK (
        state = 'VOID' OR amount_due = total - balance_applied - amount_paid
    )
"""

# INV-1 with its ordinal: a service period is billed again only by what takes the place of a void
# invoice, and of those there is one for each.
ORDINAL = """
ALTER TABLE invoicing.billed_source
    ADD COLUMN ordinal integer NOT NULL DEFAULT 1
        CONSTRAINT ordinals_begin_at_one CHECK (ordinal >= 1),
    DROP CONSTRAINT a_service_period_is_billed_once,
    ADD CONSTRAINT a_service_period_is_billed_once
        PRIMARY KEY (tenant_id, subscription_item_id, kind, service_start_time, ordinal)
"""

RECEIVED_PAYMENT = """
CREATE TABLE invoicing.received_payment (
    tenant_id uuid NOT NULL,
    received_payment_id uuid NOT NULL,
    customer_id text NOT NULL,
    currency text NOT NULL,
    scale smallint NOT NULL,
    amount numeric(38, 0) NOT NULL CONSTRAINT amount_is_above_zero CHECK (amount > 0),
    balance_given numeric(38, 0) NOT NULL
        CONSTRAINT no_more_is_kept_than_came CHECK (balance_given BETWEEN 0 AND amount),
    reference text NOT NULL,
    receive_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, received_payment_id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES invoicing.customer (tenant_id, customer_id)
)
"""

ALLOCATION = """
CREATE TABLE invoicing.payment_allocation (
    tenant_id uuid NOT NULL,
    received_payment_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    position integer NOT NULL,
    amount numeric(38, 0) NOT NULL CONSTRAINT amount_is_above_zero CHECK (amount > 0),
    PRIMARY KEY (tenant_id, received_payment_id, invoice_id),
    FOREIGN KEY (tenant_id, received_payment_id)
        REFERENCES invoicing.received_payment (tenant_id, received_payment_id),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoicing.invoice (tenant_id, invoice_id)
)
"""

INDEXES = (
    "CREATE INDEX invoice_owing ON invoicing.invoice (tenant_id, customer_id, due_time)"
    " WHERE state = 'OPEN'",
    "CREATE INDEX billed_source_of_invoice ON invoicing.billed_source (tenant_id, invoice_id)"
    " WHERE invoice_id IS NOT NULL",
    "CREATE INDEX received_payment_of_customer ON invoicing.received_payment"
    " (tenant_id, customer_id, received_payment_id)",
)


def upgrade() -> None:
    for statement in (UNGUARDED, PAID, PAID_BEFORE, DUE, GUARDED):
        op.execute(statement)
    for statement in (ORDINAL, RECEIVED_PAYMENT, ALLOCATION, *INDEXES):
        op.execute(statement)
    for table in ("received_payment", "payment_allocation"):
        protect(op, "invoicing", table)
        grant(op, APP, f"invoicing.{table}", "SELECT, INSERT")
    grant(op, APP, "invoicing.invoice", "UPDATE (amount_paid, payment_amount, close_reason)")
