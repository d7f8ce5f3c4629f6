"""Lines of customers whose documents others pay; parts written off; documents at zero."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant

revision = "0011"
down_revision = "0010"

APP = "invoicing_app"

# Whose line it is, where that is not the document's own customer.
LINE = """
ALTER TABLE invoicing.invoice_line ADD COLUMN customer_id text NOT NULL DEFAULT ''
"""

SELLER = """
ALTER TABLE invoicing.seller ADD COLUMN issue_zero_invoices boolean NOT NULL DEFAULT false
"""

# What was given up while the rest stays due.
INVOICE = """
ALTER TABLE invoicing.invoice
    ADD COLUMN amount_written_off numeric(38, 0) NOT NULL DEFAULT 0
        CONSTRAINT nothing_is_written_off_below_zero CHECK (amount_written_off >= 0),
    DROP CONSTRAINT due_is_what_nobody_paid,
    ADD CONSTRAINT due_is_what_nobody_paid CHECK (
        state = 'VOID' OR amount_due
            = total - balance_applied - amount_paid - amount_offset - amount_written_off
    )
"""


def upgrade() -> None:
    for statement in (LINE, SELLER, INVOICE):
        op.execute(statement)
    grant(op, APP, "invoicing.invoice", "UPDATE (amount_written_off)")
