"""Credit notes."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, protect

revision = "0004"
down_revision = "0003"

APP = "invoicing_app"

CREDITED = """
ALTER TABLE invoicing.invoice
    ADD COLUMN amount_credited numeric(38, 0) NOT NULL DEFAULT 0
        CONSTRAINT no_more_is_credited_than_billed CHECK (amount_credited BETWEEN 0 AND total),
    ADD COLUMN amount_offset numeric(38, 0) NOT NULL DEFAULT 0
        CONSTRAINT no_more_is_offset_than_credited
        CHECK (amount_offset BETWEEN 0 AND amount_credited),
    DROP CONSTRAINT due_is_what_nobody_paid,
    ADD CONSTRAINT due_is_what_nobody_paid CHECK (
        state = 'VOID' OR amount_due = total - balance_applied - amount_paid - amount_offset
    )
"""

# Which tax of its document is on a line. Lines of before had one rate for each category, as a rule;
# where they had two, the first stands for both.
TAX_POSITION = """
ALTER TABLE invoicing.invoice_line ADD COLUMN tax_position integer
"""
TAX_POSITION_BEFORE = """
UPDATE invoicing.invoice_line AS l SET tax_position = (
    SELECT min(t.position) FROM invoicing.invoice_tax AS t
     WHERE t.tenant_id = l.tenant_id AND t.invoice_id = l.invoice_id
       AND t.category = l.tax_category
) WHERE l.amount <> 0
"""

NOTE = """
CREATE TABLE invoicing.credit_note (
    tenant_id uuid NOT NULL,
    credit_note_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    customer_id text NOT NULL,
    series text NOT NULL,
    series_number bigint NOT NULL,
    number text NOT NULL,
    reason text NOT NULL CONSTRAINT reason_is_known CHECK (
        reason IN ('BILLING_ERROR', 'SERVICE', 'DUPLICATE', 'RETURNED', 'GOODWILL')
    ),
    memo text NOT NULL,
    currency text NOT NULL,
    scale smallint NOT NULL,
    subtotal numeric(38, 0) NOT NULL,
    tax_total numeric(38, 0) NOT NULL,
    total numeric(38, 0) NOT NULL CONSTRAINT something_is_credited CHECK (total > 0),
    amount_offset numeric(38, 0) NOT NULL,
    balance_given numeric(38, 0) NOT NULL,
    out_of_band numeric(38, 0) NOT NULL,
    issue_time timestamptz NOT NULL,
    -- The invoice's number, and who sold and bought, as they were when the note was issued.
    invoice_number text NOT NULL,
    seller jsonb NOT NULL,
    buyer jsonb NOT NULL,
    CONSTRAINT total_is_subtotal_and_tax CHECK (total = subtotal + tax_total),
    CONSTRAINT all_value_goes_somewhere
        CHECK (total = amount_offset + balance_given + out_of_band),
    CONSTRAINT parts_are_not_negative
        CHECK (amount_offset >= 0 AND balance_given >= 0 AND out_of_band >= 0),
    PRIMARY KEY (tenant_id, credit_note_id),
    CONSTRAINT numbers_are_unique_in_a_series_of_notes UNIQUE (tenant_id, series, series_number),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoicing.invoice (tenant_id, invoice_id)
)
"""

NOTE_LINE = """
CREATE TABLE invoicing.credit_note_line (
    tenant_id uuid NOT NULL,
    credit_note_id uuid NOT NULL,
    position integer NOT NULL,
    invoice_position integer NOT NULL,
    description text NOT NULL,
    amount numeric(38, 0) NOT NULL CONSTRAINT nothing_is_no_line CHECK (amount <> 0),
    PRIMARY KEY (tenant_id, credit_note_id, position),
    CONSTRAINT a_note_takes_a_line_back_once UNIQUE (tenant_id, credit_note_id, invoice_position),
    FOREIGN KEY (tenant_id, credit_note_id)
        REFERENCES invoicing.credit_note (tenant_id, credit_note_id)
)
"""

NOTE_TAX = """
CREATE TABLE invoicing.credit_note_tax (
    tenant_id uuid NOT NULL,
    credit_note_id uuid NOT NULL,
    -- Of the invoice's tax that is taken back.
    invoice_position integer NOT NULL,
    description text NOT NULL,
    category text NOT NULL,
    rate numeric NOT NULL,
    taxable numeric(38, 0) NOT NULL,
    amount numeric(38, 0) NOT NULL,
    PRIMARY KEY (tenant_id, credit_note_id, invoice_position),
    FOREIGN KEY (tenant_id, credit_note_id)
        REFERENCES invoicing.credit_note (tenant_id, credit_note_id)
)
"""

NOTE_DOCUMENT = """
CREATE TABLE invoicing.credit_note_document (
    tenant_id uuid NOT NULL,
    credit_note_id uuid NOT NULL,
    template text NOT NULL,
    sha256 bytea NOT NULL CONSTRAINT digest_is_sha256 CHECK (length(sha256) = 32),
    pdf bytea NOT NULL,
    PRIMARY KEY (tenant_id, credit_note_id),
    FOREIGN KEY (tenant_id, credit_note_id)
        REFERENCES invoicing.credit_note (tenant_id, credit_note_id)
)
"""

INDEXES = (
    "CREATE INDEX credit_note_of_invoice ON invoicing.credit_note (tenant_id, invoice_id)",
    "CREATE INDEX credit_note_of_customer ON invoicing.credit_note"
    " (tenant_id, customer_id, credit_note_id)",
)

UNGUARDED = ("invoice_line", "invoice_tax")


def upgrade() -> None:
    op.execute(CREDITED)
    op.execute(TAX_POSITION)
    # The owner of a table is guarded too, and names no tenant.
    for table in UNGUARDED:
        op.execute(f"ALTER TABLE invoicing.{table} NO FORCE ROW LEVEL SECURITY")
    op.execute(TAX_POSITION_BEFORE)
    for table in UNGUARDED:
        op.execute(f"ALTER TABLE invoicing.{table} FORCE ROW LEVEL SECURITY")
    for statement in (NOTE, NOTE_LINE, NOTE_TAX, NOTE_DOCUMENT, *INDEXES):
        op.execute(statement)
    for table in ("credit_note", "credit_note_line", "credit_note_tax", "credit_note_document"):
        protect(op, "invoicing", table)
        grant(op, APP, f"invoicing.{table}", "SELECT, INSERT")
    grant(op, APP, "invoicing.invoice", "UPDATE (amount_credited, amount_offset)")
