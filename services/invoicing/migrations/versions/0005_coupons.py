"""Coupons and their redemptions."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, protect

revision = "0005"
down_revision = "0004"

APP = "invoicing_app"

COUPON = """
CREATE TABLE invoicing.coupon (
    tenant_id uuid NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    -- A share or an amount of minor units in a currency, never both.
    rate numeric CONSTRAINT rate_is_a_share CHECK (rate > 0 AND rate <= 1),
    amount numeric(38, 0) CONSTRAINT amount_is_above_zero CHECK (amount > 0),
    currency text NOT NULL,
    duration text NOT NULL
        CONSTRAINT duration_is_known CHECK (duration IN ('ONCE', 'REPEATING', 'FOREVER')),
    documents integer NOT NULL,
    plan_codes text[] NOT NULL,
    price_codes text[] NOT NULL,
    redemptions_max bigint,
    redemptions bigint NOT NULL DEFAULT 0,
    end_time timestamptz,
    keep_unused boolean NOT NULL,
    archived boolean NOT NULL DEFAULT false,
    create_time timestamptz NOT NULL,
    CONSTRAINT a_coupon_takes_off_one_thing CHECK ((rate IS NULL) <> (amount IS NULL)),
    CONSTRAINT redemptions_stay_within_their_limit CHECK (
        redemptions >= 0 AND (redemptions_max IS NULL OR redemptions <= redemptions_max)
    ),
    PRIMARY KEY (tenant_id, code)
)
"""

CUSTOMER_COUPON = """
CREATE TABLE invoicing.customer_coupon (
    tenant_id uuid NOT NULL,
    customer_id text NOT NULL,
    code text NOT NULL,
    attach_time timestamptz NOT NULL,
    detached boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, customer_id, code),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES invoicing.customer (tenant_id, customer_id),
    FOREIGN KEY (tenant_id, code) REFERENCES invoicing.coupon (tenant_id, code)
)
"""

# DIS-4: one for each coupon, customer and document; given back when the document is voided.
REDEMPTION = """
CREATE TABLE invoicing.coupon_redemption (
    tenant_id uuid NOT NULL,
    code text NOT NULL,
    customer_id text NOT NULL,
    invoice_id uuid NOT NULL,
    amount numeric(38, 0) NOT NULL,
    returned boolean NOT NULL DEFAULT false,
    CONSTRAINT a_document_redeems_a_coupon_once PRIMARY KEY (tenant_id, code, invoice_id),
    FOREIGN KEY (tenant_id, code) REFERENCES invoicing.coupon (tenant_id, code),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoicing.invoice (tenant_id, invoice_id)
        DEFERRABLE INITIALLY DEFERRED
)
"""

# What coupons took off the lines of a document (step 7 of the order of application).
DISCOUNT = """
CREATE TABLE invoicing.invoice_discount (
    tenant_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    position integer NOT NULL,
    code text NOT NULL,
    description text NOT NULL,
    amount numeric(38, 0) NOT NULL CONSTRAINT amount_is_above_zero CHECK (amount > 0),
    PRIMARY KEY (tenant_id, invoice_id, position),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoicing.invoice (tenant_id, invoice_id)
)
"""

DISCOUNTED = """
ALTER TABLE invoicing.invoice
    ADD COLUMN discount_total numeric(38, 0) NOT NULL DEFAULT 0
        CONSTRAINT discounts_are_not_negative CHECK (discount_total >= 0),
    DROP CONSTRAINT total_is_subtotal_and_tax,
    ADD CONSTRAINT total_is_subtotal_less_discounts_and_tax
        CHECK (total = subtotal - discount_total + tax_total + balance_given)
"""
DISCOUNTED_LINE = """
ALTER TABLE invoicing.invoice_line
    ADD COLUMN discount numeric(38, 0) NOT NULL DEFAULT 0
        CONSTRAINT no_more_is_taken_off_than_asked_for
        CHECK (discount BETWEEN 0 AND greatest(amount, 0))
"""

PRIVILEGES = {
    "coupon": "SELECT, INSERT, UPDATE (redemptions, archived)",
    "customer_coupon": "SELECT, INSERT, UPDATE (detached, attach_time)",
    "coupon_redemption": "SELECT, INSERT, UPDATE (returned)",
    "invoice_discount": "SELECT, INSERT",
}


def upgrade() -> None:
    for statement in (COUPON, CUSTOMER_COUPON, REDEMPTION, DISCOUNT, DISCOUNTED, DISCOUNTED_LINE):
        op.execute(statement)
    op.execute(
        "CREATE INDEX coupon_redemption_of_customer ON invoicing.coupon_redemption"
        " (tenant_id, customer_id)"
    )
    op.execute(
        "CREATE INDEX coupon_redemption_of_invoice ON invoicing.coupon_redemption"
        " (tenant_id, invoice_id)"
    )
    for table, privileges in PRIVILEGES.items():
        protect(op, "invoicing", table)
        grant(op, APP, f"invoicing.{table}", privileges)
