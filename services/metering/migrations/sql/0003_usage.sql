-- Prices as documents, kept as they were when usage was rated by them.
CREATE TABLE metering.pricing (
    tenant_id uuid NOT NULL,
    pricing_id uuid NOT NULL,
    document jsonb NOT NULL,
    PRIMARY KEY (tenant_id, pricing_id)
)
--;
-- Running usage: one price of one subscription item in one billing period.
CREATE TABLE metering.usage (
    tenant_id uuid NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    number integer NOT NULL CONSTRAINT usages_are_numbered_from_one CHECK (number >= 1),
    subscription_item_id text COLLATE "C" NOT NULL,
    price_id text COLLATE "C" NOT NULL,
    plan_code text NOT NULL,
    meter text COLLATE "C" NOT NULL,
    dimensions jsonb NOT NULL,
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    -- The part of the period in which the price is in force.
    start_time timestamptz NOT NULL,
    end_time timestamptz NOT NULL,
    time_zone text NOT NULL,
    pricing_id uuid NOT NULL,
    settlement smallint NOT NULL CONSTRAINT settlement_is_known CHECK (settlement IN (1, 2)),
    asset text NOT NULL,
    scale smallint NOT NULL CONSTRAINT scale_is_0_to_18 CHECK (scale BETWEEN 0 AND 18),
    quantity numeric NOT NULL,
    event_count bigint NOT NULL CONSTRAINT events_are_counted CHECK (event_count >= 0),
    -- Where more than the total quantity decides the cost: the rest of the rating state.
    rating_state jsonb,
    asked numeric(38, 0) NOT NULL CONSTRAINT asked_is_never_negative CHECK (asked >= 0),
    shortfall numeric(38, 0) NOT NULL,
    -- round(cost) − asked: what the next event, or the close of the period, corrects.
    left_over numeric(38, 0) NOT NULL,
    CONSTRAINT a_period_ends_after_it_starts CHECK (period_end > period_start),
    CONSTRAINT only_what_was_asked_can_be_short CHECK (shortfall BETWEEN 0 AND asked),
    PRIMARY KEY (tenant_id, customer_id, number)
) WITH (fillfactor = 70)
--;
CREATE UNIQUE INDEX usage_by_item
    ON metering.usage (tenant_id, customer_id, subscription_item_id, price_id, period_start)
--;
-- What meters counted, by hour (UTC) and dimension values: a JSON object of the meter's dimensions
-- in their order.
CREATE TABLE metering.usage_hour (
    tenant_id uuid NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    hour timestamptz NOT NULL,
    dimension_values text COLLATE "C" NOT NULL,
    aggregation smallint NOT NULL,
    quantity numeric NOT NULL,
    event_count bigint NOT NULL CONSTRAINT events_are_counted CHECK (event_count >= 0),
    PRIMARY KEY (tenant_id, customer_id, meter, hour, dimension_values)
) WITH (fillfactor = 70)
