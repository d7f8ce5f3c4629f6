"""What changes of a subscription: terms and items with a start and an end of their own."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, protect

revision = "0014"
down_revision = "0013"

APP = "invoicing_app"

CATALOG = """
ALTER TABLE invoicing.plan_version
    ADD COLUMN kind text NOT NULL DEFAULT 'PLAN'
        CONSTRAINT kind_is_known CHECK (kind IN ('PLAN', 'ADD_ON')),
    ADD COLUMN quantity_max numeric CONSTRAINT quantity_max_is_above_zero CHECK (quantity_max > 0),
    ADD COLUMN compatible_plans text[] NOT NULL DEFAULT '{}',
    ADD COLUMN trial jsonb
"""
PRICES = """
ALTER TABLE invoicing.price
    ADD COLUMN interval_count integer CONSTRAINT interval_is_positive
        CHECK (interval_count BETWEEN 1 AND 1000),
    ADD COLUMN interval_unit text CONSTRAINT unit_is_known
        CHECK (interval_unit IN ('DAY', 'WEEK', 'MONTH', 'YEAR')),
    ADD COLUMN currency_pricings jsonb NOT NULL DEFAULT '{}',
    ADD CONSTRAINT an_interval_has_count_and_unit
        CHECK ((interval_count IS NULL) = (interval_unit IS NULL))
"""
FROZEN = """
CREATE OR REPLACE FUNCTION invoicing.refuse_change_of_published() RETURNS trigger
LANGUAGE plpgsql SET search_path = invoicing, pg_temp AS $$
BEGIN
    IF OLD.state <> 'DRAFT' AND (
        NEW.name, NEW.interval_count, NEW.interval_unit, NEW.features, NEW.publish_time,
        NEW.entitlements, NEW.kind, NEW.quantity_max, NEW.compatible_plans, NEW.trial
    ) IS DISTINCT FROM (
        OLD.name, OLD.interval_count, OLD.interval_unit, OLD.features, OLD.publish_time,
        OLD.entitlements, OLD.kind, OLD.quantity_max, OLD.compatible_plans, OLD.trial
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

SUBSCRIPTION = """
ALTER TABLE invoicing.subscription
    ADD COLUMN currency text NOT NULL DEFAULT '',
    ADD COLUMN proration_basis text NOT NULL DEFAULT 'ACTUAL_SECONDS'
        CONSTRAINT basis_is_known CHECK (proration_basis IN (
            'ACTUAL_SECONDS', 'ACTUAL_DAYS', 'ACTUAL_OVER_30', 'THIRTY_360', 'NONE'
        )),
    ADD COLUMN trial_end_time timestamptz,
    ADD COLUMN pause_time timestamptz,
    ADD COLUMN resume_time timestamptz,
    -- The end that stands when a cancellation is undone.
    ADD COLUMN planned_end_time timestamptz,
    ADD COLUMN end_reason text NOT NULL DEFAULT '',
    ADD COLUMN ending jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN pausing jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN renewal jsonb NOT NULL DEFAULT '{}',
    ADD CONSTRAINT pauses_end_after_they_start CHECK (resume_time >= pause_time)
"""

# A plan or an add-on that a subscription has for a time.
TERM = """
CREATE TABLE invoicing.subscription_term (
    tenant_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    term_id uuid NOT NULL,
    plan_code text NOT NULL,
    plan_version integer NOT NULL,
    is_add_on boolean NOT NULL,
    quantity numeric NOT NULL CONSTRAINT quantity_is_not_negative CHECK (quantity >= 0),
    -- Quantities of seat prices, by code, as its entitlements count them.
    seats jsonb NOT NULL,
    start_time timestamptz NOT NULL,
    end_time timestamptz,
    anchor_time timestamptz NOT NULL,
    interval_count integer NOT NULL,
    interval_unit text NOT NULL,
    cause text NOT NULL,
    CONSTRAINT terms_do_not_end_before_they_start CHECK (end_time >= start_time),
    PRIMARY KEY (tenant_id, subscription_id, term_id),
    FOREIGN KEY (tenant_id, subscription_id)
        REFERENCES invoicing.subscription (tenant_id, subscription_id),
    FOREIGN KEY (tenant_id, plan_code, plan_version)
        REFERENCES invoicing.plan_version (tenant_id, code, version)
)
"""

# An item without times of its own has those of its subscription.
ITEM = """
ALTER TABLE invoicing.subscription_item
    DROP CONSTRAINT one_item_per_price,
    ADD COLUMN term_id uuid,
    ADD COLUMN start_time timestamptz,
    ADD COLUMN end_time timestamptz,
    ADD COLUMN anchor_time timestamptz,
    ADD COLUMN interval_count integer,
    ADD COLUMN interval_unit text,
    -- In place of the price's own: an override, another currency, an uplift.
    ADD COLUMN pricing jsonb,
    ADD COLUMN is_free boolean NOT NULL DEFAULT false,
    ADD COLUMN is_whole boolean NOT NULL DEFAULT false,
    ADD COLUMN unused text NOT NULL DEFAULT 'BILLED_SHARE'
        CONSTRAINT unused_is_known CHECK (unused IN ('BILLED_SHARE', 'LIST_SHARE', 'NONE')),
    ADD COLUMN prompt_start boolean NOT NULL DEFAULT true,
    ADD COLUMN prompt_end boolean NOT NULL DEFAULT false,
    ADD COLUMN cause text NOT NULL DEFAULT '',
    ADD CONSTRAINT items_do_not_end_before_they_start CHECK (end_time >= start_time)
"""

CHANGE = """
CREATE TABLE invoicing.subscription_change (
    tenant_id uuid NOT NULL,
    subscription_id uuid NOT NULL,
    revision integer NOT NULL,
    kind text NOT NULL,
    effective_time timestamptz NOT NULL,
    create_time timestamptz NOT NULL,
    note text NOT NULL,
    PRIMARY KEY (tenant_id, subscription_id, revision),
    FOREIGN KEY (tenant_id, subscription_id)
        REFERENCES invoicing.subscription (tenant_id, subscription_id)
)
"""

# Only the owner sees all tenants' rows, and only while row security is not forced on it.
BACKFILL = (
    "ALTER TABLE invoicing.subscription NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE invoicing.subscription_item NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE invoicing.customer NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE invoicing.price NO FORCE ROW LEVEL SECURITY",
    "UPDATE invoicing.subscription AS s SET currency = c.currency FROM invoicing.customer AS c"
    " WHERE c.tenant_id = s.tenant_id AND c.customer_id = s.customer_id",
    "INSERT INTO invoicing.subscription_term (tenant_id, subscription_id, term_id, plan_code,"
    " plan_version, is_add_on, quantity, seats, start_time, anchor_time, interval_count,"
    " interval_unit, cause) SELECT s.tenant_id, s.subscription_id, s.subscription_id, s.plan_code,"
    " s.plan_version, false, 1, coalesce((SELECT jsonb_object_agg(p.code, i.quantity::text)"
    "  FROM invoicing.subscription_item AS i JOIN invoicing.price AS p USING (tenant_id, price_id)"
    "  WHERE i.tenant_id = s.tenant_id AND i.subscription_id = s.subscription_id"
    "  AND p.kind = 'SEAT'), '{}'), s.start_time, s.anchor_time, s.interval_count,"
    " s.interval_unit, '' FROM invoicing.subscription AS s",
    "UPDATE invoicing.subscription_item SET term_id = subscription_id",
    "ALTER TABLE invoicing.price FORCE ROW LEVEL SECURITY",
    "ALTER TABLE invoicing.customer FORCE ROW LEVEL SECURITY",
    "ALTER TABLE invoicing.subscription_item FORCE ROW LEVEL SECURITY",
    "ALTER TABLE invoicing.subscription FORCE ROW LEVEL SECURITY",
)

PRIVILEGES = {
    "subscription_term": "SELECT, INSERT, UPDATE (end_time, cause)",
    "subscription_change": "SELECT, INSERT",
}


def upgrade() -> None:
    for statement in (CATALOG, PRICES, FROZEN, SUBSCRIPTION, TERM, ITEM, CHANGE, *BACKFILL):
        op.execute(statement)
    op.execute(
        "CREATE INDEX subscription_item_of_subscription ON invoicing.subscription_item"
        " (tenant_id, subscription_id, position)"
    )
    for table, privileges in PRIVILEGES.items():
        protect(op, "invoicing", table)
        grant(op, APP, f"invoicing.{table}", privileges)
    grant(
        op,
        APP,
        "invoicing.subscription",
        "UPDATE (currency, trial_end_time, pause_time, resume_time, planned_end_time, end_reason,"
        " ending, pausing, renewal)",
    )
    grant(
        op,
        APP,
        "invoicing.subscription_item",
        "UPDATE (end_time, unused, prompt_end, cause)",
    )
