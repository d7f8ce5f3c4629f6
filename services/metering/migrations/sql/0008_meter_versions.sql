-- A meter has versions; those that are published never change.
ALTER TABLE metering.meter DROP CONSTRAINT meter_pkey
--;
ALTER TABLE metering.meter DROP CONSTRAINT aggregation_is_known
--;
ALTER TABLE metering.meter DROP CONSTRAINT only_a_count_has_no_value
--;
ALTER TABLE metering.meter
    ADD COLUMN version integer NOT NULL DEFAULT 1
        CONSTRAINT meter_versions_begin_at_one CHECK (version >= 1),
    ADD COLUMN value_expression text NOT NULL DEFAULT '',
    ADD COLUMN filter_expression text NOT NULL DEFAULT '',
    ADD COLUMN property_types jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN operation_property text NOT NULL DEFAULT '',
    ADD COLUMN carries boolean NOT NULL DEFAULT false,
    -- [mode, step, whether each event is rounded].
    ADD COLUMN rounding jsonb,
    ADD COLUMN on_missing smallint NOT NULL DEFAULT 1
        CONSTRAINT on_missing_is_known CHECK (on_missing BETWEEN 1 AND 3),
    -- Events from then on are counted by this version; none: all events.
    ADD COLUMN effective_time timestamptz,
    ALTER COLUMN from_version DROP NOT NULL,
    ADD CONSTRAINT aggregation_is_known CHECK (aggregation BETWEEN 1 AND 6),
    ADD CONSTRAINT only_a_count_has_no_value
        CHECK ((aggregation = 1) = (value_property = '' AND value_expression = '')),
    ADD CONSTRAINT a_value_is_said_once CHECK (value_property = '' OR value_expression = ''),
    ADD CONSTRAINT only_a_published_version_ends
        CHECK (until_version IS NULL OR from_version IS NOT NULL),
    ADD PRIMARY KEY (tenant_id, code, version)
--;
CREATE UNIQUE INDEX meter_has_one_draft ON metering.meter (tenant_id, code)
    WHERE from_version IS NULL
--;
-- What hours need to know of levels: Σ value × microseconds since 1970 of a weighted sum, and
-- which event a last value is of.
ALTER TABLE metering.usage_hour
    ADD COLUMN leverage numeric NOT NULL DEFAULT 0,
    ADD COLUMN last_time bigint NOT NULL DEFAULT -1,
    ADD COLUMN last_sequence bigint NOT NULL DEFAULT -1
--;
-- The keys of a unique count in one running usage, by the cell or window that prices look at.
CREATE TABLE metering.usage_key (
    tenant_id uuid NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    number integer NOT NULL,
    part text COLLATE "C" NOT NULL,
    unique_key uuid NOT NULL,
    event_count bigint NOT NULL CONSTRAINT events_are_counted CHECK (event_count >= 0),
    last_time bigint NOT NULL,
    last_sequence bigint NOT NULL,
    is_active boolean NOT NULL,
    PRIMARY KEY (tenant_id, customer_id, number, part, unique_key)
) WITH (fillfactor = 70)
--;
-- The same by hour, for queries over any stretch of time and for what a period begins with.
CREATE TABLE metering.usage_hour_key (
    tenant_id uuid NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    unique_key uuid NOT NULL,
    hour timestamptz NOT NULL,
    dimension_values text COLLATE "C" NOT NULL,
    event_count bigint NOT NULL CONSTRAINT events_are_counted CHECK (event_count >= 0),
    last_time bigint NOT NULL,
    last_sequence bigint NOT NULL,
    is_active boolean NOT NULL,
    PRIMARY KEY (tenant_id, customer_id, meter, unique_key, hour, dimension_values)
) WITH (fillfactor = 70)
--;
-- Which usage a level that changed late is carried into.
CREATE INDEX usage_by_meter ON metering.usage (tenant_id, customer_id, meter, start_time)
