"""Usage that came after its period was billed."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"

# Before coupons: what the period costs now is compared with it (MTR-9). Null: the amount itself.
GROSS = """
ALTER TABLE invoicing.billed_source
    ADD COLUMN gross numeric(38, 0),
    DROP CONSTRAINT kind_is_known,
    ADD CONSTRAINT kind_is_known CHECK (kind IN ('CHARGE', 'DEDUCTION', 'ADJUSTMENT'))
"""
LINE_KIND = """
ALTER TABLE invoicing.invoice_line
    DROP CONSTRAINT kind_is_known,
    ADD CONSTRAINT kind_is_known CHECK (
        kind IN ('FIXED', 'SEAT', 'USAGE', 'MINIMUM', 'TOP_UP', 'DEDUCTION', 'ADJUSTMENT')
    )
"""


def upgrade() -> None:
    op.execute(GROSS)
    op.execute(LINE_KIND)
