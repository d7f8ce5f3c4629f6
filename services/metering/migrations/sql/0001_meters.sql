CREATE TABLE metering.meter (
    tenant_id uuid NOT NULL,
    code text COLLATE "C" NOT NULL CONSTRAINT code_is_short CHECK (length(code) BETWEEN 1 AND 64),
    name text NOT NULL,
    event_name text COLLATE "C" NOT NULL
        CONSTRAINT event_name_is_short CHECK (length(event_name) BETWEEN 1 AND 128),
    aggregation smallint NOT NULL CONSTRAINT aggregation_is_known CHECK (aggregation IN (1, 2, 3)),
    value_property text NOT NULL
        CONSTRAINT only_a_count_has_no_value CHECK ((aggregation = 1) = (value_property = '')),
    filters jsonb NOT NULL,
    dimensions text[] NOT NULL
        CONSTRAINT dimensions_are_few CHECK (cardinality(dimensions) <= 10),
    unit text NOT NULL,
    create_time timestamptz NOT NULL,
    -- The version of the tenant's set of meters from which it counts, and from which it does not.
    from_version integer NOT NULL CONSTRAINT versions_begin_at_one CHECK (from_version >= 1),
    until_version integer
        CONSTRAINT a_meter_ends_after_it_began CHECK (until_version > from_version),
    PRIMARY KEY (tenant_id, code)
)
--;
-- Rises with every change of a tenant's meters, so that each event knows which meters counted it.
CREATE TABLE metering.meter_set (
    tenant_id uuid NOT NULL PRIMARY KEY,
    version integer NOT NULL CONSTRAINT versions_begin_at_one CHECK (version >= 1)
)
