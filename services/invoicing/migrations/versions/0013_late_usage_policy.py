"""What becomes of usage that came after its period was billed; invoices by number."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"

SELLER = """
ALTER TABLE invoicing.seller
    ADD COLUMN late_usage text NOT NULL DEFAULT 'NEXT_INVOICE' CONSTRAINT late_usage_is_known
        CHECK (late_usage IN ('NEXT_INVOICE', 'CREDIT_NOTE', 'RECORD_ONLY'))
"""


def upgrade() -> None:
    op.execute(SELLER)
    op.execute("CREATE INDEX invoice_by_number ON invoicing.invoice (tenant_id, number)")
