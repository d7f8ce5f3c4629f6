"""Usage invoiced ahead of the close of its period, by threshold."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, own, reveal

revision = "0012"
down_revision = "0011"

APP = "invoicing_app"
SWEEPER = "invoicing_sweeper"

CUSTOMER = """
ALTER TABLE invoicing.customer
    ADD COLUMN billing_threshold numeric(38, 0)
        CONSTRAINT threshold_is_above_zero CHECK (billing_threshold > 0)
"""

KINDS = """
ALTER TABLE invoicing.invoice
    DROP CONSTRAINT kind_is_known,
    ADD CONSTRAINT kind_is_known
        CHECK (kind IN ('SUBSCRIPTION', 'TOP_UP', 'ONE_OFF', 'PROGRESSIVE'))
"""
SOURCES = """
ALTER TABLE invoicing.billed_source
    DROP CONSTRAINT kind_is_known,
    ADD CONSTRAINT kind_is_known
        CHECK (kind IN ('CHARGE', 'DEDUCTION', 'ADJUSTMENT', 'PROGRESS'))
"""

# Runs that look at thresholds alone; they are many, and forgotten once done.
RUN = "ALTER TABLE invoicing.billing_run ADD COLUMN ahead boolean NOT NULL DEFAULT false"

TENANTS = """
CREATE FUNCTION invoicing.tenants_with_thresholds() RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = invoicing, pg_temp AS $$
    SELECT DISTINCT tenant_id FROM customer WHERE billing_threshold IS NOT NULL
$$
"""


def upgrade() -> None:
    for statement in (CUSTOMER, KINDS, SOURCES, RUN):
        op.execute(statement)
    op.execute(
        "CREATE INDEX customer_with_threshold ON invoicing.customer (tenant_id, customer_id)"
        " WHERE billing_threshold IS NOT NULL"
    )
    reveal(op, "invoicing", "customer", SWEEPER)
    grant(op, SWEEPER, "invoicing.customer", "SELECT")
    op.execute(TENANTS)
    own(op, "invoicing", "tenants_with_thresholds()", SWEEPER, APP)
    grant(op, APP, "invoicing.customer", "UPDATE (billing_threshold)")
    for table in ("billing_run", "billing_run_customer"):
        grant(op, APP, f"invoicing.{table}", "DELETE")
