-- The inventory: current state, log, streams, dead letters.

-- A machine that runs an agent. Its row is the lock under which everything
-- that its agent reports is folded.
CREATE TABLE node (
    uid uuid PRIMARY KEY,
    cluster text NOT NULL,
    display_name text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    -- From the newest heartbeat.
    stream uuid,
    agent_version text NOT NULL DEFAULT '',
    heartbeat_time timestamptz,
    heartbeat_interval_seconds integer NOT NULL DEFAULT 15,
    last_sequence bigint NOT NULL DEFAULT 0,
    outbox_batches bigint NOT NULL DEFAULT 0
);
CREATE INDEX node_by_display_name ON node (display_name, uid);

-- The streams of a node, numbered by first sight, with the sequences received.
CREATE TABLE node_stream (
    node_uid uuid NOT NULL REFERENCES node,
    stream uuid NOT NULL,
    number integer NOT NULL,
    received int8multirange NOT NULL DEFAULT '{}',
    create_time timestamptz NOT NULL,
    PRIMARY KEY (node_uid, stream),
    UNIQUE (node_uid, number)
);

-- Snapshots of which not every batch has arrived.
CREATE TABLE pending_snapshot (
    node_uid uuid NOT NULL,
    stream uuid NOT NULL,
    kind smallint NOT NULL,
    first_sequence bigint NOT NULL,
    last_sequence bigint NOT NULL,
    PRIMARY KEY (node_uid, stream, kind, last_sequence),
    FOREIGN KEY (node_uid, stream) REFERENCES node_stream
);

-- The current fold of the log: one row an asset.
CREATE TABLE asset (
    uid uuid PRIMARY KEY,
    kind smallint NOT NULL,
    display_name text COLLATE "C" NOT NULL,
    node_uid uuid REFERENCES node,
    natural_key text NOT NULL,
    -- assettrack.v1.AssetState; 0 for what people created.
    state smallint NOT NULL,
    -- assettrack.v1.AssetDetails and ManagedFields as they are answered …
    details bytea,
    managed bytea,
    -- … and {"details": …, "managed": …} as they are searched.
    attributes jsonb NOT NULL DEFAULT '{}',
    revision bigint NOT NULL,
    managed_revision bigint NOT NULL DEFAULT 0,
    -- Version of the newest observation: (stream_number, sequence, batch_index).
    stream_number integer NOT NULL DEFAULT 0,
    sequence bigint NOT NULL DEFAULT 0,
    batch_index integer NOT NULL DEFAULT 0,
    -- Version of the newest observation that said what it is like.
    seen_stream_number integer NOT NULL DEFAULT 0,
    seen_sequence bigint NOT NULL DEFAULT 0,
    seen_batch_index integer NOT NULL DEFAULT 0,
    state_hash bytea,
    first_seen_time timestamptz,
    remove_time timestamptz,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    delete_time timestamptz
);
CREATE INDEX asset_by_display_name ON asset (display_name, uid) WHERE delete_time IS NULL;
CREATE INDEX asset_by_kind ON asset (kind, display_name, uid) WHERE delete_time IS NULL;
CREATE INDEX asset_by_node ON asset (node_uid, kind, state);
CREATE INDEX asset_by_kind_and_state ON asset (kind, state) WHERE delete_time IS NULL;

-- The log of observations and edits, and so the history. Each row holds both
-- sides of the asset as they were after it.
CREATE SEQUENCE asset_event_id_seq;
CREATE TABLE asset_event (
    record_time timestamptz NOT NULL,
    -- Drawn under the node's or the asset's lock.
    id bigint NOT NULL DEFAULT nextval('asset_event_id_seq'),
    event_uid uuid NOT NULL,
    -- assettrack.v1.EventType.
    type smallint NOT NULL,
    asset_uid uuid NOT NULL,
    kind smallint NOT NULL,
    display_name text NOT NULL,
    node_uid uuid,
    natural_key text NOT NULL,
    -- NULL for one that came too late to change anything.
    revision bigint,
    managed_revision bigint NOT NULL,
    state smallint NOT NULL,
    details bytea,
    managed bytea,
    changed_fields text[] NOT NULL DEFAULT '{}',
    actor text NOT NULL,
    observe_time timestamptz,
    stream uuid,
    sequence bigint,
    batch_index integer,
    PRIMARY KEY (record_time, id)
) PARTITION BY RANGE (record_time);
CREATE INDEX asset_event_by_asset ON asset_event (asset_uid, revision DESC);
CREATE INDEX asset_event_by_node ON asset_event (node_uid, record_time DESC, id DESC);
-- Catches what no daily partition covers, so that nothing is ever refused.
CREATE TABLE asset_event_default PARTITION OF asset_event DEFAULT;

-- Makes the daily partitions (UTC) from today to `days` days ahead.
CREATE FUNCTION create_event_partitions(days integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    day date;
    name text;
    created integer := 0;
BEGIN
    FOR day IN SELECT (now() AT TIME ZONE 'UTC')::date + n FROM generate_series(0, days) AS n LOOP
        name := 'asset_event_' || to_char(day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        BEGIN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF asset_event FOR VALUES FROM (%L) TO (%L)',
                name, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
            created := created + 1;
        EXCEPTION WHEN check_violation THEN
            -- Rows of that day are in the default partition and stay there; the
            -- days after it must not suffer.
            RAISE WARNING 'no partition for %: the default partition has rows of it', day;
        END;
    END LOOP;
    RETURN created;
END
$$;
SELECT create_event_partitions(7);

-- Messages that can never be applied, until a person replays or deletes them.
CREATE TABLE dead_letter (
    uid uuid PRIMARY KEY,
    -- SHA-256 of queue, reason and body: the same message again only counts.
    fingerprint bytea NOT NULL UNIQUE,
    -- assettrack.v1.DeadLetterReason.
    reason smallint NOT NULL,
    detail text NOT NULL,
    queue text NOT NULL,
    message_id text NOT NULL,
    node_uid uuid,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    body_size_bytes bigint NOT NULL,
    count bigint NOT NULL DEFAULT 1,
    create_time timestamptz NOT NULL,
    last_time timestamptz NOT NULL
);

-- When each collector last delivered heartbeats, or said that there are none.
CREATE TABLE collector_contact (
    collector text PRIMARY KEY,
    contact_time timestamptz NOT NULL
);

-- Random keys that all replicas share, such as the one that signs page tokens.
CREATE TABLE signing_key (
    name text PRIMARY KEY,
    key bytea NOT NULL
);
