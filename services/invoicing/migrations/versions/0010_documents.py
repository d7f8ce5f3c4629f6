"""What sellers look like on documents, and documents as files of several kinds."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, protect

revision = "0010"
down_revision = "0009"

APP = "invoicing_app"

SELLER = """
ALTER TABLE invoicing.seller
    ADD COLUMN city text NOT NULL DEFAULT '',
    ADD COLUMN postal_code text NOT NULL DEFAULT '',
    ADD COLUMN language text NOT NULL DEFAULT '',
    ADD COLUMN brand_color text NOT NULL DEFAULT '',
    ADD COLUMN logo_sha256 text NOT NULL DEFAULT '',
    ADD COLUMN contact_name text NOT NULL DEFAULT '',
    ADD COLUMN phone text NOT NULL DEFAULT '',
    ADD COLUMN iban text NOT NULL DEFAULT '',
    ADD COLUMN bic text NOT NULL DEFAULT ''
"""

# Named by what it is, so that an issued document keeps the picture it was issued with.
LOGO = """
CREATE TABLE invoicing.seller_logo (
    tenant_id uuid NOT NULL,
    sha256 text NOT NULL,
    media_type text NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (tenant_id, sha256)
)
"""

_FILE = """
CREATE TABLE invoicing.{document}_file (
    tenant_id uuid NOT NULL,
    {document}_id uuid NOT NULL,
    format text NOT NULL CONSTRAINT format_is_known
        CHECK (format IN ('FACTUR_X', 'CII', 'UBL', 'XRECHNUNG')),
    sha256 bytea NOT NULL CONSTRAINT digest_is_sha256 CHECK (length(sha256) = 32),
    content bytea NOT NULL,
    PRIMARY KEY (tenant_id, {document}_id, format),
    FOREIGN KEY (tenant_id, {document}_id)
        REFERENCES invoicing.{document} (tenant_id, {document}_id)
)
"""


def upgrade() -> None:
    op.execute(SELLER)
    op.execute(LOGO)
    for document in ("invoice", "credit_note"):
        op.execute(_FILE.format(document=document))
    for table in ("seller_logo", "invoice_file", "credit_note_file"):
        protect(op, "invoicing", table)
        grant(op, APP, f"invoicing.{table}", "SELECT, INSERT")
