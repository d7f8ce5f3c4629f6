CREATE TABLE {schema}.outbox (
    tenant_id uuid NOT NULL,
    message_id uuid NOT NULL,
    -- The order of sending. Two transactions that lock the same row append in the order in which
    -- they held it; between others there is no order to keep.
    sequence bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL CONSTRAINT kind_is_short CHECK (length(kind) BETWEEN 1 AND 100),
    payload bytea NOT NULL,
    trace text NOT NULL DEFAULT '',
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    published_time timestamptz,
    PRIMARY KEY (tenant_id, message_id)
)
--;
CREATE INDEX outbox_unpublished ON {schema}.outbox (sequence) WHERE published_time IS NULL
--;
CREATE INDEX outbox_published ON {schema}.outbox (create_time) WHERE published_time IS NOT NULL
--;
-- One row: which relay is at work. Another may take over when the lease has run out.
CREATE TABLE {schema}.outbox_relay (
    only_row boolean PRIMARY KEY DEFAULT true CONSTRAINT there_is_one_relay CHECK (only_row),
    holder uuid,
    lease_end_time timestamptz NOT NULL DEFAULT '-infinity',
    -- The stream's last entry as we wrote it. A stream that is behind it was emptied or restored.
    last_entry text NOT NULL DEFAULT '0-0'
)
--;
INSERT INTO {schema}.outbox_relay DEFAULT VALUES
--;
CREATE TABLE {schema}.inbox (
    tenant_id uuid NOT NULL,
    message_id uuid NOT NULL,
    source text NOT NULL,
    kind text NOT NULL,
    state text NOT NULL CONSTRAINT state_is_known CHECK (state IN ('DONE', 'RETRYING', 'PARKED')),
    attempts integer NOT NULL DEFAULT 0 CONSTRAINT attempts_are_counted CHECK (attempts >= 0),
    error text NOT NULL DEFAULT '',
    -- Kept until the message is done, so that a retry does not depend on the stream.
    payload bytea,
    trace text NOT NULL DEFAULT '',
    message_create_time timestamptz NOT NULL,
    next_attempt_time timestamptz,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    update_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT unfinished_messages_keep_their_payload CHECK (state = 'DONE' OR payload IS NOT NULL),
    PRIMARY KEY (tenant_id, message_id)
)
--;
CREATE INDEX inbox_retrying ON {schema}.inbox (next_attempt_time) WHERE state = 'RETRYING'
--;
CREATE INDEX inbox_parked ON {schema}.inbox (kind) WHERE state = 'PARKED'
--;
CREATE INDEX inbox_done ON {schema}.inbox (update_time) WHERE state = 'DONE'
--;
CREATE TABLE {schema}.request (
    tenant_id uuid NOT NULL,
    request_id text NOT NULL,
    fingerprint bytea NOT NULL CONSTRAINT fingerprint_is_sha256 CHECK (length(fingerprint) = 32),
    -- Null only inside the transaction that claimed the id.
    response bytea,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, request_id)
)
--;
CREATE INDEX request_by_age ON {schema}.request (create_time)
