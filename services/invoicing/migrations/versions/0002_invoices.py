"""Sellers, taxes, invoices, billing runs, collection."""

from __future__ import annotations

from alembic import op

from chassis.migrations import grant, own, protect, reveal

revision = "0002"
down_revision = "0001"

APP = "invoicing_app"
SWEEPER = "invoicing_sweeper"

SELLER = """
CREATE TABLE invoicing.seller (
    tenant_id uuid PRIMARY KEY,
    name text NOT NULL,
    address text[] NOT NULL,
    tax_id text NOT NULL,
    email text NOT NULL,
    number_prefix text NOT NULL,
    net_terms_days integer NOT NULL
        CONSTRAINT terms_are_within_a_year CHECK (net_terms_days BETWEEN 0 AND 365)
)
"""

TAX_RATE = """
CREATE TABLE invoicing.tax_rate (
    tenant_id uuid NOT NULL,
    country text NOT NULL,
    category text NOT NULL,
    start_time timestamptz NOT NULL,
    name text NOT NULL,
    rate numeric NOT NULL CONSTRAINT rate_is_a_share CHECK (rate >= 0 AND rate <= 1),
    PRIMARY KEY (tenant_id, country, category, start_time)
)
"""

# One row per series: the number is taken inside the transaction that finalizes, so that a rollback
# gives it back and no number is ever missing.
SERIES = """
CREATE TABLE invoicing.invoice_series (
    tenant_id uuid NOT NULL,
    series text NOT NULL,
    last_number bigint NOT NULL CONSTRAINT numbers_begin_at_one CHECK (last_number >= 1),
    last_issue_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, series)
)
"""

INVOICE = """
CREATE TABLE invoicing.invoice (
    tenant_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    customer_id text NOT NULL,
    kind text NOT NULL CONSTRAINT kind_is_known CHECK (kind IN ('SUBSCRIPTION', 'TOP_UP')),
    state text NOT NULL
        CONSTRAINT state_is_known CHECK (state IN ('OPEN', 'PAID', 'VOID', 'UNCOLLECTIBLE')),
    series text NOT NULL,
    series_number bigint NOT NULL,
    number text NOT NULL,
    currency text NOT NULL,
    -- Decimal places of the currency's minor unit, which all amounts of the invoice count.
    scale smallint NOT NULL CONSTRAINT scale_is_a_currencys CHECK (scale BETWEEN 0 AND 4),
    period_start_time timestamptz,
    period_end_time timestamptz,
    subtotal numeric(38, 0) NOT NULL,
    tax_total numeric(38, 0) NOT NULL,
    total numeric(38, 0) NOT NULL,
    -- What the customer's balance paid of it, and what it gave to the balance: where deductions
    -- exceed what is due, the document is issued at zero and the rest is kept for later ones.
    balance_applied numeric(38, 0) NOT NULL,
    balance_given numeric(38, 0) NOT NULL,
    amount_due numeric(38, 0) NOT NULL,
    issue_time timestamptz NOT NULL,
    due_time timestamptz NOT NULL,
    run_id uuid,
    recharge_id uuid,
    -- Who sold and who bought, as they were when it was issued.
    seller jsonb NOT NULL,
    buyer jsonb NOT NULL,
    create_time timestamptz NOT NULL,
    payment_id text NOT NULL DEFAULT '',
    payment_method_id text NOT NULL DEFAULT '',
    dunning_state text NOT NULL DEFAULT 'NONE' CONSTRAINT dunning_state_is_known CHECK (
        dunning_state IN ('NONE', 'RETRYING', 'WAITING_FOR_CUSTOMER', 'EXHAUSTED', 'RECOVERED')
    ),
    dunning_attempts integer NOT NULL DEFAULT 0,
    first_attempt_time timestamptz,
    next_attempt_time timestamptz,
    -- How often the gateway was asked; the last time may still be undecided.
    asks integer NOT NULL DEFAULT 0,
    ask_open boolean NOT NULL DEFAULT false,
    -- Until when one worker has it. The machine's clock, since workers live in real time.
    claim_end_time timestamptz NOT NULL DEFAULT '-infinity',
    CONSTRAINT total_is_subtotal_and_tax CHECK (total = subtotal + tax_total + balance_given),
    CONSTRAINT figures_are_not_negative
        CHECK (total >= 0 AND balance_applied >= 0 AND balance_given >= 0),
    CONSTRAINT amount_due_is_within_the_total
        CHECK (amount_due BETWEEN 0 AND total - balance_applied),
    CONSTRAINT nothing_is_due_once_paid_or_void
        CHECK (state NOT IN ('PAID', 'VOID') OR amount_due = 0),
    PRIMARY KEY (tenant_id, invoice_id),
    CONSTRAINT numbers_are_unique_in_a_series UNIQUE (tenant_id, series, series_number),
    CONSTRAINT a_recharge_is_invoiced_once UNIQUE (tenant_id, recharge_id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES invoicing.customer (tenant_id, customer_id)
)
"""

LINE = """
CREATE TABLE invoicing.invoice_line (
    tenant_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    position integer NOT NULL,
    kind text NOT NULL CONSTRAINT kind_is_known
        CHECK (kind IN ('FIXED', 'SEAT', 'USAGE', 'MINIMUM', 'TOP_UP', 'DEDUCTION')),
    description text NOT NULL,
    service_start_time timestamptz,
    service_end_time timestamptz,
    quantity text NOT NULL,
    asset text NOT NULL,
    asset_scale smallint NOT NULL,
    cost numeric(38, 0) NOT NULL,
    wallet_amount numeric(38, 0) NOT NULL,
    amount numeric(38, 0) NOT NULL,
    exact_cost text NOT NULL,
    tax_category text NOT NULL,
    supply_time timestamptz NOT NULL,
    details jsonb NOT NULL,
    price_id uuid,
    subscription_item_id uuid,
    PRIMARY KEY (tenant_id, invoice_id, position),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoicing.invoice (tenant_id, invoice_id)
)
"""

TAX = """
CREATE TABLE invoicing.invoice_tax (
    tenant_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    position integer NOT NULL,
    description text NOT NULL,
    category text NOT NULL,
    rate numeric NOT NULL,
    taxable numeric(38, 0) NOT NULL,
    amount numeric(38, 0) NOT NULL,
    PRIMARY KEY (tenant_id, invoice_id, position),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoicing.invoice (tenant_id, invoice_id)
)
"""

# INV-1: each source of a charge is billed once, whatever crashes and however many runs ask.
BILLED_SOURCE = """
CREATE TABLE invoicing.billed_source (
    tenant_id uuid NOT NULL,
    subscription_item_id uuid NOT NULL,
    kind text NOT NULL CONSTRAINT kind_is_known CHECK (kind IN ('CHARGE', 'DEDUCTION')),
    service_start_time timestamptz NOT NULL,
    service_end_time timestamptz NOT NULL,
    -- What was asked for it, in the invoice's minor units; 0 where no document was needed.
    amount numeric(38, 0) NOT NULL,
    invoice_id uuid,
    CONSTRAINT a_service_period_is_billed_once
        PRIMARY KEY (tenant_id, subscription_item_id, kind, service_start_time),
    FOREIGN KEY (tenant_id, subscription_item_id)
        REFERENCES invoicing.subscription_item (tenant_id, subscription_item_id),
    -- Deferred: sources are claimed first, so that the series is held for the shortest time.
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoicing.invoice (tenant_id, invoice_id)
        DEFERRABLE INITIALLY DEFERRED
)
"""

# What a document gave back beyond its total, and what later documents took of it (INV-6).
BALANCE = """
CREATE TABLE invoicing.customer_balance (
    tenant_id uuid NOT NULL,
    customer_id text NOT NULL,
    currency text NOT NULL,
    amount numeric(38, 0) NOT NULL CONSTRAINT balance_is_never_negative CHECK (amount >= 0),
    PRIMARY KEY (tenant_id, customer_id, currency),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES invoicing.customer (tenant_id, customer_id)
)
"""

DOCUMENT = """
CREATE TABLE invoicing.invoice_document (
    tenant_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    template text NOT NULL,
    sha256 bytea NOT NULL CONSTRAINT digest_is_sha256 CHECK (length(sha256) = 32),
    pdf bytea NOT NULL,
    PRIMARY KEY (tenant_id, invoice_id),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoicing.invoice (tenant_id, invoice_id)
)
"""

RUN = """
CREATE TABLE invoicing.billing_run (
    tenant_id uuid NOT NULL,
    run_id uuid NOT NULL,
    as_of timestamptz NOT NULL,
    issue_time timestamptz NOT NULL,
    state text NOT NULL CONSTRAINT state_is_known CHECK (state IN ('RUNNING', 'DONE')),
    customers integer NOT NULL,
    PRIMARY KEY (tenant_id, run_id)
)
"""

RUN_CUSTOMER = """
CREATE TABLE invoicing.billing_run_customer (
    tenant_id uuid NOT NULL,
    run_id uuid NOT NULL,
    customer_id text NOT NULL,
    done boolean NOT NULL DEFAULT false,
    fault text NOT NULL DEFAULT '',
    attempts integer NOT NULL DEFAULT 0,
    -- When it may be tried (again); also the lease of the worker that tries. The machine's clock.
    next_try_time timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (tenant_id, run_id, customer_id),
    FOREIGN KEY (tenant_id, run_id) REFERENCES invoicing.billing_run (tenant_id, run_id)
)
"""

ATTEMPT = """
CREATE TABLE invoicing.payment_attempt (
    tenant_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    -- The gateway's id of the attempt, and the state it was told to have reached.
    attempt_id text NOT NULL,
    state text NOT NULL,
    decline_class text NOT NULL,
    decline_code text NOT NULL,
    record_time timestamptz NOT NULL,
    CONSTRAINT an_outcome_counts_once PRIMARY KEY (tenant_id, invoice_id, attempt_id, state),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoicing.invoice (tenant_id, invoice_id)
)
"""

TOP_UP = """
CREATE TABLE invoicing.top_up (
    tenant_id uuid NOT NULL,
    recharge_id uuid NOT NULL,
    invoice_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    asset text NOT NULL,
    value text NOT NULL,
    cost_basis text NOT NULL,
    cost_asset text NOT NULL,
    state text NOT NULL CONSTRAINT state_is_known
        CHECK (state IN ('COLLECTING', 'GRANTING', 'FAILING', 'GRANTED', 'FAILED')),
    disable_rule boolean NOT NULL DEFAULT false,
    cause text NOT NULL DEFAULT '',
    next_try_time timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (tenant_id, recharge_id),
    CONSTRAINT one_top_up_per_invoice UNIQUE (tenant_id, invoice_id),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES invoicing.invoice (tenant_id, invoice_id)
)
"""

# What the jobs ask across tenants: only whose work is waiting, never what it is.
TENANTS = """
CREATE FUNCTION invoicing.tenants_with_runs() RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = invoicing, pg_temp AS $$
    SELECT DISTINCT tenant_id FROM billing_run WHERE state = 'RUNNING'
$$
"""

# Whose work is due by the machine's clock; with `all_planned`, also whose work is planned for
# later, which a tenant on a test clock may have reached.
TENANTS_TO_COLLECT = """
CREATE FUNCTION invoicing.tenants_to_collect(all_planned boolean) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = invoicing, pg_temp AS $$
    SELECT tenant_id FROM invoice
     WHERE next_attempt_time <= CASE WHEN all_planned THEN 'infinity' ELSE clock_timestamp() END
       AND claim_end_time <= clock_timestamp()
    UNION SELECT tenant_id FROM invoice WHERE ask_open AND claim_end_time <= clock_timestamp()
    UNION SELECT tenant_id FROM top_up
     WHERE state IN ('GRANTING', 'FAILING') AND next_try_time <= clock_timestamp()
    UNION SELECT tenant_id FROM invoice
     WHERE all_planned AND dunning_state = 'WAITING_FOR_CUSTOMER'
$$
"""

TENANTS_TO_BILL = """
CREATE FUNCTION invoicing.tenants_to_bill(until timestamptz) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = invoicing, pg_temp AS $$
    SELECT DISTINCT tenant_id FROM subscription WHERE next_bill_time <= until
$$
"""

INDEXES = (
    "CREATE INDEX invoice_of_customer ON invoicing.invoice (tenant_id, customer_id, invoice_id)",
    "CREATE INDEX invoice_of_run ON invoicing.invoice (tenant_id, run_id) WHERE run_id IS NOT NULL",
    "CREATE INDEX invoice_to_collect ON invoicing.invoice (tenant_id, next_attempt_time)"
    " WHERE next_attempt_time IS NOT NULL",
    "CREATE INDEX invoice_asked ON invoicing.invoice (tenant_id) WHERE ask_open",
    "CREATE INDEX invoice_waiting ON invoicing.invoice (tenant_id)"
    " WHERE dunning_state = 'WAITING_FOR_CUSTOMER'",
    "CREATE INDEX billing_run_running ON invoicing.billing_run (tenant_id) WHERE state = 'RUNNING'",
    "CREATE INDEX billing_run_customer_left ON invoicing.billing_run_customer"
    " (tenant_id, run_id, next_try_time) WHERE NOT done",
    "CREATE INDEX top_up_unfinished ON invoicing.top_up (tenant_id)"
    " WHERE state IN ('GRANTING', 'FAILING')",
)

# The application may write these columns and no others: what is issued stays as it is.
PRIVILEGES = {
    "seller": "SELECT, INSERT, UPDATE",
    "tax_rate": "SELECT, INSERT, UPDATE (name, rate)",
    "invoice_series": "SELECT, INSERT, UPDATE (last_number, last_issue_time)",
    "invoice": "SELECT, INSERT, UPDATE (state, amount_due, payment_id, dunning_state,"
    " dunning_attempts, first_attempt_time, next_attempt_time, asks, ask_open, claim_end_time)",
    "invoice_line": "SELECT, INSERT",
    "invoice_tax": "SELECT, INSERT",
    "billed_source": "SELECT, INSERT",
    "customer_balance": "SELECT, INSERT, UPDATE (amount)",
    "invoice_document": "SELECT, INSERT",
    "billing_run": "SELECT, INSERT, UPDATE (state, customers)",
    "billing_run_customer": "SELECT, INSERT, UPDATE (done, fault, attempts, next_try_time)",
    "payment_attempt": "SELECT, INSERT",
    "top_up": "SELECT, INSERT, UPDATE (state, disable_rule, cause, next_try_time)",
}


def upgrade() -> None:
    tables = (SELLER, TAX_RATE, SERIES, INVOICE, LINE, TAX, BILLED_SOURCE, BALANCE, DOCUMENT)
    for statement in (*tables, RUN, RUN_CUSTOMER, ATTEMPT, TOP_UP, *INDEXES):
        op.execute(statement)
    for table, privileges in PRIVILEGES.items():
        protect(op, "invoicing", table)
        grant(op, APP, f"invoicing.{table}", privileges)
    for table in ("billing_run", "invoice", "top_up", "subscription"):
        reveal(op, "invoicing", table, SWEEPER)
        grant(op, SWEEPER, f"invoicing.{table}", "SELECT")
    for function in (TENANTS, TENANTS_TO_COLLECT, TENANTS_TO_BILL):
        op.execute(function)
    own(op, "invoicing", "tenants_with_runs()", SWEEPER, APP)
    own(op, "invoicing", "tenants_to_collect(boolean)", SWEEPER, APP)
    own(op, "invoicing", "tenants_to_bill(timestamptz)", SWEEPER, APP)
