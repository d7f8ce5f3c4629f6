-- An event that another revision took the place of stays, and is counted no longer.
ALTER TABLE metering.event DROP CONSTRAINT event_state_is_known
--;
ALTER TABLE metering.event
    ADD CONSTRAINT event_state_is_known CHECK (state IN (1, 2, 5)) NOT VALID
--;
ALTER TABLE metering.event VALIDATE CONSTRAINT event_state_is_known
--;
-- What was corrected: one row for each revision of an event, the original not among them.
CREATE TABLE metering.event_revision (
    tenant_id uuid NOT NULL,
    -- Key of the revision and of what it charges; an amended event's row has the same.
    receipt_id uuid NOT NULL,
    origin_id uuid NOT NULL,
    customer_id text COLLATE "C" NOT NULL,
    revision integer NOT NULL CONSTRAINT revisions_are_numbered_from_one CHECK (revision >= 1),
    kind smallint NOT NULL CONSTRAINT revision_kind_is_known CHECK (kind IN (2, 3, 4)),
    -- The event row that was counted until then; none where a deprecation was taken back.
    supersedes uuid,
    reason text NOT NULL CONSTRAINT reason_is_short CHECK (length(reason) BETWEEN 1 AND 500),
    caller text NOT NULL,
    request_id text COLLATE "C" NOT NULL
        CONSTRAINT request_id_is_short CHECK (length(request_id) BETWEEN 1 AND 128),
    fingerprint bytea NOT NULL,
    -- 1: applied; 2: the wallet refused what it cost more, and the event stayed as it was.
    state smallint NOT NULL CONSTRAINT revision_state_is_known CHECK (state IN (1, 2)),
    -- What is asked for no longer: [usage number, atoms, of which fell short, [[charge, atoms]…]].
    refunds jsonb NOT NULL,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, receipt_id)
)
--;
CREATE UNIQUE INDEX event_revision_by_event
    ON metering.event_revision (tenant_id, origin_id, revision)
--;
CREATE UNIQUE INDEX event_revision_by_request
    ON metering.event_revision (tenant_id, request_id)
--;
CREATE INDEX event_revision_by_customer
    ON metering.event_revision (tenant_id, customer_id, receipt_id)
