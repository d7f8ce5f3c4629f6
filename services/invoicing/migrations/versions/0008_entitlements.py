"""Features, and what is granted of them beside plans."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, protect

revision = "0008"
down_revision = "0007"

APP = "invoicing_app"

FEATURE = """
CREATE TABLE invoicing.feature (
    tenant_id uuid NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CONSTRAINT kind_is_known CHECK (kind IN ('BOOLEAN', 'CONFIG', 'METERED')),
    meter text NOT NULL,
    merge text NOT NULL CONSTRAINT merge_is_known CHECK (merge IN ('REPLACE', 'MAX', 'SUM')),
    -- What everybody has; null: nothing.
    default_value jsonb,
    create_time timestamptz NOT NULL,
    CONSTRAINT only_metered_features_name_a_meter CHECK ((kind = 'METERED') = (meter <> '')),
    PRIMARY KEY (tenant_id, code)
)
"""

# The customer's own override has the nil subscription, so that the key holds for it too.
OVERRIDE = """
CREATE TABLE invoicing.entitlement_override (
    tenant_id uuid NOT NULL,
    customer_id text NOT NULL,
    feature_code text NOT NULL,
    subscription_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    value jsonb NOT NULL,
    start_time timestamptz NOT NULL,
    end_time timestamptz,
    CONSTRAINT overrides_end_after_they_start CHECK (end_time > start_time),
    CONSTRAINT one_override_per_feature
        PRIMARY KEY (tenant_id, customer_id, feature_code, subscription_id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES invoicing.customer (tenant_id, customer_id),
    FOREIGN KEY (tenant_id, feature_code) REFERENCES invoicing.feature (tenant_id, code)
)
"""

GRANT = """
CREATE TABLE invoicing.entitlement_grant (
    tenant_id uuid NOT NULL,
    grant_id uuid NOT NULL,
    customer_id text NOT NULL,
    feature_code text NOT NULL,
    value jsonb NOT NULL,
    start_time timestamptz NOT NULL,
    end_time timestamptz,
    reason text NOT NULL,
    CONSTRAINT grants_do_not_end_before_they_start CHECK (end_time >= start_time),
    PRIMARY KEY (tenant_id, grant_id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES invoicing.customer (tenant_id, customer_id),
    FOREIGN KEY (tenant_id, feature_code) REFERENCES invoicing.feature (tenant_id, code)
)
"""

GRANTED = """
ALTER TABLE invoicing.plan_version ADD COLUMN entitlements jsonb NOT NULL DEFAULT '[]'
"""

# As before, and what a published version grants is frozen with the rest of it.
FROZEN = """
CREATE OR REPLACE FUNCTION invoicing.refuse_change_of_published() RETURNS trigger
LANGUAGE plpgsql SET search_path = invoicing, pg_temp AS $$
BEGIN
    IF OLD.state <> 'DRAFT' AND (
        NEW.name, NEW.interval_count, NEW.interval_unit, NEW.features, NEW.publish_time,
        NEW.entitlements
    ) IS DISTINCT FROM (
        OLD.name, OLD.interval_count, OLD.interval_unit, OLD.features, OLD.publish_time,
        OLD.entitlements
    ) THEN
        RAISE EXCEPTION 'plan % version % is published and never changes', OLD.code, OLD.version;
    END IF;
    IF (OLD.state, NEW.state) NOT IN (
        ('DRAFT', 'DRAFT'), ('DRAFT', 'PUBLISHED'), ('PUBLISHED', 'PUBLISHED'),
        ('PUBLISHED', 'ARCHIVED'), ('ARCHIVED', 'ARCHIVED')
    ) THEN
        RAISE EXCEPTION 'plan versions do not go from % to %', OLD.state, NEW.state;
    END IF;
    RETURN NEW;
END $$
"""

PRIVILEGES = {
    "feature": "SELECT, INSERT, UPDATE (name, merge, default_value)",
    "entitlement_override": "SELECT, INSERT, UPDATE (value, start_time, end_time), DELETE",
    "entitlement_grant": "SELECT, INSERT, UPDATE (end_time)",
}


def upgrade() -> None:
    for statement in (FEATURE, OVERRIDE, GRANT, GRANTED, FROZEN):
        op.execute(statement)
    op.execute(
        "CREATE INDEX entitlement_grant_of_customer ON invoicing.entitlement_grant"
        " (tenant_id, customer_id, grant_id)"
    )
    for table, privileges in PRIVILEGES.items():
        protect(op, "invoicing", table)
        grant(op, APP, f"invoicing.{table}", privileges)
