"""Refunds of credit notes."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, own, protect, reveal

revision = "0006"
down_revision = "0005"

APP = "invoicing_app"
SWEEPER = "invoicing_sweeper"

REFUNDED = """
ALTER TABLE invoicing.credit_note
    ADD COLUMN refund_amount numeric(38, 0) NOT NULL DEFAULT 0
        CONSTRAINT refunds_are_not_negative CHECK (refund_amount >= 0),
    DROP CONSTRAINT all_value_goes_somewhere,
    ADD CONSTRAINT all_value_goes_somewhere
        CHECK (total = amount_offset + balance_given + out_of_band + refund_amount)
"""

REFUND = """
CREATE TABLE invoicing.credit_refund (
    tenant_id uuid NOT NULL,
    credit_note_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    customer_id text NOT NULL,
    payment_id text NOT NULL,
    note_number text NOT NULL,
    currency text NOT NULL,
    scale smallint NOT NULL,
    amount numeric(38, 0) NOT NULL CONSTRAINT amount_is_above_zero CHECK (amount > 0),
    state text NOT NULL CONSTRAINT state_is_known
        CHECK (state IN ('REQUESTED', 'PENDING', 'SUCCEEDED', 'FAILED', 'RETURNED')),
    -- The gateway's, once it has answered.
    refund_id text NOT NULL DEFAULT '',
    failure_code text NOT NULL DEFAULT '',
    -- When the gateway is asked next; also the lease of the worker that asks. The machine's clock.
    next_try_time timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (tenant_id, credit_note_id),
    FOREIGN KEY (tenant_id, credit_note_id)
        REFERENCES invoicing.credit_note (tenant_id, credit_note_id)
)
"""

TENANTS = """
CREATE FUNCTION invoicing.tenants_to_refund() RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = invoicing, pg_temp AS $$
    SELECT DISTINCT tenant_id FROM credit_refund WHERE next_try_time <= clock_timestamp()
$$
"""

INDEXES = (
    "CREATE INDEX credit_refund_to_ask ON invoicing.credit_refund (next_try_time)"
    " WHERE next_try_time < 'infinity'",
    "CREATE INDEX credit_refund_of_invoice ON invoicing.credit_refund (tenant_id, invoice_id)",
    "CREATE INDEX credit_refund_at_gateway ON invoicing.credit_refund (tenant_id, refund_id)",
)


def upgrade() -> None:
    for statement in (REFUNDED, REFUND, *INDEXES):
        op.execute(statement)
    protect(op, "invoicing", "credit_refund")
    grant(
        op,
        APP,
        "invoicing.credit_refund",
        "SELECT, INSERT, UPDATE (state, refund_id, failure_code, next_try_time)",
    )
    reveal(op, "invoicing", "credit_refund", SWEEPER)
    grant(op, SWEEPER, "invoicing.credit_refund", "SELECT")
    op.execute(TENANTS)
    own(op, "invoicing", "tenants_to_refund()", SWEEPER, APP)
