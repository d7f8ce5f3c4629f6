"""Lines of customers whose documents others pay."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"

# Whose line it is, where that is not the document's own customer.
LINE = """
ALTER TABLE invoicing.invoice_line ADD COLUMN customer_id text NOT NULL DEFAULT ''
"""


def upgrade() -> None:
    op.execute(LINE)
