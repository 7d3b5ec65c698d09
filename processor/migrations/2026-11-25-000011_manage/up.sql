-- What people keep beside assets, and calls that are done once.

-- Calls that write, by their request_id, so that one that is sent again gets the
-- first answer. The row is written in the transaction of the act, and is the lock
-- on which the same call waits while the first is under way.
CREATE TABLE request (
    actor text NOT NULL,
    request_id uuid NOT NULL,
    method text NOT NULL,
    -- SHA-256 of the request.
    fingerprint bytea NOT NULL,
    -- The encoded answer; NULL only within the transaction.
    answer bytea,
    create_time timestamptz NOT NULL,
    PRIMARY KEY (actor, request_id)
);
CREATE INDEX request_by_create_time ON request (create_time);

CREATE TABLE saved_search (
    uid uuid PRIMARY KEY,
    title text COLLATE "C" NOT NULL,
    filter text NOT NULL,
    order_by text NOT NULL,
    column_paths text[] NOT NULL,
    owner text NOT NULL,
    revision bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL
);
CREATE INDEX saved_search_by_title ON saved_search (title, uid);

-- Definitions of custom fields. Edits that write custom fields hold their rows
-- shared until they end, so that a definition changes before or after them.
CREATE TABLE custom_field (
    key text COLLATE "C" PRIMARY KEY,
    -- assettrack.v1.CustomField, without name, times and etag.
    definition bytea NOT NULL,
    revision bigint NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL
);

-- Assets that people edited: the only ones with custom fields. Agents' events
-- change neither column, and so do not touch it.
CREATE INDEX asset_managed ON asset (uid) WHERE managed_revision > 0;
