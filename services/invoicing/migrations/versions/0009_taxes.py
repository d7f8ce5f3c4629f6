"""Several taxes on a line, in it or beside it; exemptions; who is where; prepaid value."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, protect

revision = "0009"
down_revision = "0008"

APP = "invoicing_app"

CUSTOMER = """
ALTER TABLE invoicing.customer
    ADD COLUMN region text NOT NULL DEFAULT '',
    ADD COLUMN tax_id_type text NOT NULL DEFAULT '',
    ADD COLUMN language text NOT NULL DEFAULT '',
    ADD COLUMN city text NOT NULL DEFAULT '',
    ADD COLUMN postal_code text NOT NULL DEFAULT '',
    ADD COLUMN buyer_reference text NOT NULL DEFAULT '',
    -- Who pays what it owes; empty where it does so itself.
    ADD COLUMN payer_customer_id text NOT NULL DEFAULT ''
        CONSTRAINT nobody_is_paid_for_by_itself CHECK (payer_customer_id <> customer_id)
"""

SELLER = """
ALTER TABLE invoicing.seller
    ADD COLUMN country text NOT NULL DEFAULT '',
    ADD COLUMN tax_id_type text NOT NULL DEFAULT '',
    ADD COLUMN prices_include_tax boolean NOT NULL DEFAULT false,
    ADD COLUMN tax_rounding text NOT NULL DEFAULT 'DOCUMENT'
        CONSTRAINT rounding_is_known CHECK (tax_rounding IN ('DOCUMENT', 'LINE'))
"""

RATE = """
ALTER TABLE invoicing.tax_rate
    ADD COLUMN region text NOT NULL DEFAULT '',
    ADD COLUMN component text NOT NULL DEFAULT '',
    ADD COLUMN treatment text NOT NULL DEFAULT 'STANDARD'
        CONSTRAINT treatment_is_stated CHECK (treatment IN ('STANDARD', 'ZERO', 'EXEMPT')),
    ADD COLUMN compound boolean NOT NULL DEFAULT false,
    ADD COLUMN reason text NOT NULL DEFAULT '',
    ADD CONSTRAINT only_standard_rates_are_above_zero CHECK (treatment = 'STANDARD' OR rate = 0),
    DROP CONSTRAINT tax_rate_pkey,
    ADD PRIMARY KEY (tenant_id, country, region, category, component, start_time)
"""

EXEMPTION = """
CREATE TABLE invoicing.tax_exemption (
    tenant_id uuid NOT NULL,
    exemption_id uuid NOT NULL,
    customer_id text NOT NULL,
    country text NOT NULL,
    category text NOT NULL,
    reason text NOT NULL,
    certificate text NOT NULL,
    start_time timestamptz NOT NULL,
    end_time timestamptz,
    CONSTRAINT exemptions_end_after_they_start CHECK (end_time >= start_time),
    PRIMARY KEY (tenant_id, exemption_id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES invoicing.customer (tenant_id, customer_id)
)
"""

PREPAID = """
CREATE TABLE invoicing.prepaid_tax (
    tenant_id uuid NOT NULL,
    asset text NOT NULL,
    timing text NOT NULL
        CONSTRAINT timing_is_known CHECK (timing IN ('AT_PURCHASE', 'AT_REDEMPTION')),
    PRIMARY KEY (tenant_id, asset)
)
"""

# The part of the taxes that the lines' amounts hold already.
INVOICE = """
ALTER TABLE invoicing.invoice
    ADD COLUMN tax_included numeric(38, 0) NOT NULL DEFAULT 0,
    DROP CONSTRAINT total_is_subtotal_less_discounts_and_tax,
    ADD CONSTRAINT total_is_subtotal_less_discounts_and_tax CHECK (
        total = subtotal - discount_total + tax_total - tax_included + balance_given
    )
"""
NOTE = """
ALTER TABLE invoicing.credit_note
    ADD COLUMN tax_included numeric(38, 0) NOT NULL DEFAULT 0,
    DROP CONSTRAINT total_is_subtotal_and_tax,
    ADD CONSTRAINT total_is_subtotal_and_tax
        CHECK (total = subtotal + tax_total - tax_included)
"""

# Which taxes of its document are on a line, and its shares of them. Lines of before had at most
# one, whose share is not known of each.
LINE = """
ALTER TABLE invoicing.invoice_line
    ADD COLUMN tax_included boolean NOT NULL DEFAULT false,
    ADD COLUMN tax_positions integer[] NOT NULL DEFAULT '{}',
    ADD COLUMN tax_amounts numeric[] NOT NULL DEFAULT '{}'
"""
LINE_BEFORE = """
UPDATE invoicing.invoice_line AS l
   SET tax_positions = ARRAY[l.tax_position], tax_amounts = ARRAY[0::numeric]
 WHERE l.tax_position IS NOT NULL
"""

_TAX = """
ALTER TABLE invoicing.{table}
    ADD COLUMN jurisdiction text NOT NULL DEFAULT '',
    ADD COLUMN treatment text NOT NULL DEFAULT 'STANDARD',
    ADD COLUMN reason text NOT NULL DEFAULT '',
    ADD COLUMN included boolean NOT NULL DEFAULT false,
    ADD COLUMN prepaid boolean NOT NULL DEFAULT false,
    ADD COLUMN compound boolean NOT NULL DEFAULT false
"""

CUSTOMER_COLUMNS = (
    "name, email, address, country, tax_id, region, tax_id_type, language, city, postal_code,"
    " buyer_reference, payer_customer_id"
)


def upgrade() -> None:
    for statement in (CUSTOMER, SELLER, RATE, EXEMPTION, PREPAID, INVOICE, NOTE, LINE):
        op.execute(statement)
    for table in ("invoice_tax", "credit_note_tax"):
        op.execute(_TAX.format(table=table))
    # The owner of a table is guarded too, and names no tenant.
    op.execute("ALTER TABLE invoicing.invoice_line NO FORCE ROW LEVEL SECURITY")
    op.execute(LINE_BEFORE)
    op.execute("ALTER TABLE invoicing.invoice_line FORCE ROW LEVEL SECURITY")
    op.execute(
        "CREATE INDEX tax_exemption_of_customer ON invoicing.tax_exemption"
        " (tenant_id, customer_id, exemption_id)"
    )
    op.execute(
        "CREATE INDEX customer_of_payer ON invoicing.customer (tenant_id, payer_customer_id)"
        " WHERE payer_customer_id <> ''"
    )
    for table, privileges in (
        ("tax_exemption", "SELECT, INSERT, UPDATE (end_time)"),
        ("prepaid_tax", "SELECT, INSERT"),
    ):
        protect(op, "invoicing", table)
        grant(op, APP, f"invoicing.{table}", privileges)
    grant(op, APP, "invoicing.tax_rate", "UPDATE (treatment, compound, reason)")
    grant(op, APP, "invoicing.customer", f"UPDATE ({CUSTOMER_COLUMNS})")
