"""Customers, plans and prices, subscriptions."""

from __future__ import annotations

from alembic import op

from chassis.migrations import chassis_tables, grant, protect

revision = "0001"
down_revision = None

APP = "invoicing_app"

CUSTOMER = """
CREATE TABLE invoicing.customer (
    tenant_id uuid NOT NULL,
    customer_id text NOT NULL,
    name text NOT NULL,
    email text NOT NULL,
    address text[] NOT NULL,
    country text NOT NULL,
    tax_id text NOT NULL,
    time_zone text NOT NULL,
    currency text NOT NULL,
    suspended boolean NOT NULL DEFAULT false,
    -- Rises with every change of anything that metering prices or refuses by.
    rate_card_version bigint NOT NULL DEFAULT 1
        CONSTRAINT rate_card_versions_begin_at_one CHECK (rate_card_version >= 1),
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, customer_id)
)
"""

PLAN = """
CREATE TABLE invoicing.plan (
    tenant_id uuid NOT NULL,
    code text NOT NULL,
    last_version integer NOT NULL CONSTRAINT versions_begin_at_one CHECK (last_version >= 1),
    -- What new subscriptions take; null until something is published.
    default_version integer,
    PRIMARY KEY (tenant_id, code)
)
"""

PLAN_VERSION = """
CREATE TABLE invoicing.plan_version (
    tenant_id uuid NOT NULL,
    code text NOT NULL,
    version integer NOT NULL,
    name text NOT NULL,
    state text NOT NULL
        CONSTRAINT state_is_known CHECK (state IN ('DRAFT', 'PUBLISHED', 'ARCHIVED')),
    interval_count integer NOT NULL
        CONSTRAINT interval_is_positive CHECK (interval_count BETWEEN 1 AND 1000),
    interval_unit text NOT NULL
        CONSTRAINT unit_is_known CHECK (interval_unit IN ('DAY', 'WEEK', 'MONTH', 'YEAR')),
    features text[] NOT NULL,
    create_time timestamptz NOT NULL,
    publish_time timestamptz,
    CONSTRAINT published_versions_say_when CHECK ((state = 'DRAFT') = (publish_time IS NULL)),
    PRIMARY KEY (tenant_id, code, version),
    FOREIGN KEY (tenant_id, code) REFERENCES invoicing.plan (tenant_id, code)
)
"""

PRICE = """
CREATE TABLE invoicing.price (
    tenant_id uuid NOT NULL,
    price_id uuid NOT NULL,
    plan_code text NOT NULL,
    plan_version integer NOT NULL,
    position integer NOT NULL,
    code text NOT NULL,
    description text NOT NULL,
    kind text NOT NULL CONSTRAINT kind_is_known CHECK (kind IN ('FIXED', 'SEAT', 'USAGE')),
    meter text NOT NULL,
    dimensions jsonb NOT NULL,
    pricing jsonb NOT NULL,
    settlement text NOT NULL
        CONSTRAINT settlement_is_known CHECK (settlement IN ('INVOICE', 'WALLET')),
    timing text NOT NULL CONSTRAINT timing_is_known CHECK (timing IN ('ADVANCE', 'ARREARS')),
    tax_category text NOT NULL,
    CONSTRAINT only_usage_names_a_meter CHECK ((kind = 'USAGE') = (meter <> '')),
    CONSTRAINT only_usage_is_settled_by_wallets CHECK (kind = 'USAGE' OR settlement = 'INVOICE'),
    CONSTRAINT usage_is_billed_in_arrears CHECK (kind <> 'USAGE' OR timing = 'ARREARS'),
    PRIMARY KEY (tenant_id, price_id),
    CONSTRAINT codes_are_unique_in_a_version UNIQUE (tenant_id, plan_code, plan_version, code),
    FOREIGN KEY (tenant_id, plan_code, plan_version)
        REFERENCES invoicing.plan_version (tenant_id, code, version)
)
"""

# The application may not change a price at all (it has no privilege to), and of a version only its
# state. The trigger holds for everybody else, migrations included.
FROZEN = """
CREATE FUNCTION invoicing.refuse_change_of_published() RETURNS trigger
LANGUAGE plpgsql SET search_path = invoicing, pg_temp AS $$
BEGIN
    IF OLD.state <> 'DRAFT' AND (
        NEW.name, NEW.interval_count, NEW.interval_unit, NEW.features, NEW.publish_time
    ) IS DISTINCT FROM (
        OLD.name, OLD.interval_count, OLD.interval_unit, OLD.features, OLD.publish_time
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

FROZEN_TRIGGER = """
CREATE TRIGGER published_versions_never_change BEFORE UPDATE ON invoicing.plan_version
FOR EACH ROW EXECUTE FUNCTION invoicing.refuse_change_of_published()
"""

SUBSCRIPTION = """
CREATE TABLE invoicing.subscription (
    tenant_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    customer_id text NOT NULL,
    plan_code text NOT NULL,
    plan_version integer NOT NULL,
    start_time timestamptz NOT NULL,
    end_time timestamptz,
    anchor_time timestamptz NOT NULL,
    interval_count integer NOT NULL,
    interval_unit text NOT NULL,
    time_zone text NOT NULL,
    create_time timestamptz NOT NULL,
    -- Changes with every change of terms: an invoice computed from an older one is not finalized.
    revision integer NOT NULL DEFAULT 1,
    -- Start of the earliest period of which something may still be unbilled.
    bill_from_time timestamptz NOT NULL,
    -- When something of it falls due next; null when all is billed for ever.
    next_bill_time timestamptz,
    CONSTRAINT subscriptions_end_after_they_start CHECK (end_time >= start_time),
    PRIMARY KEY (tenant_id, subscription_id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES invoicing.customer (tenant_id, customer_id),
    FOREIGN KEY (tenant_id, plan_code, plan_version)
        REFERENCES invoicing.plan_version (tenant_id, code, version)
)
"""

SUBSCRIPTION_ITEM = """
CREATE TABLE invoicing.subscription_item (
    tenant_id uuid NOT NULL,
    subscription_item_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    price_id uuid NOT NULL,
    position integer NOT NULL,
    quantity numeric NOT NULL CONSTRAINT quantity_is_not_negative CHECK (quantity >= 0),
    PRIMARY KEY (tenant_id, subscription_item_id),
    CONSTRAINT one_item_per_price UNIQUE (tenant_id, subscription_id, price_id),
    FOREIGN KEY (tenant_id, subscription_id)
        REFERENCES invoicing.subscription (tenant_id, subscription_id),
    FOREIGN KEY (tenant_id, price_id) REFERENCES invoicing.price (tenant_id, price_id)
)
"""


def upgrade() -> None:
    chassis_tables(op, "invoicing", APP)
    for statement in (CUSTOMER, PLAN, PLAN_VERSION, PRICE, SUBSCRIPTION, SUBSCRIPTION_ITEM):
        op.execute(statement)
    op.execute(FROZEN)
    op.execute(FROZEN_TRIGGER)
    op.execute(
        "CREATE INDEX subscription_of_customer"
        " ON invoicing.subscription (tenant_id, customer_id, subscription_id)"
    )
    op.execute(
        "CREATE INDEX subscription_due ON invoicing.subscription (tenant_id, next_bill_time)"
        " WHERE next_bill_time IS NOT NULL"
    )
    tables = ("customer", "plan", "plan_version", "price", "subscription", "subscription_item")
    for table in tables:
        protect(op, "invoicing", table)
        grant(op, APP, f"invoicing.{table}", "SELECT, INSERT")
    grant(op, APP, "invoicing.customer", "UPDATE (suspended, rate_card_version)")
    grant(op, APP, "invoicing.plan", "UPDATE (last_version, default_version)")
    grant(op, APP, "invoicing.plan_version", "UPDATE (state, publish_time)")
    grant(
        op,
        APP,
        "invoicing.subscription",
        "UPDATE (end_time, revision, bill_from_time, next_bill_time)",
    )
