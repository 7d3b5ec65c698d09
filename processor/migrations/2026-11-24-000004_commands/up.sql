-- Commands to agents, whether collectors consume, and what comparing the digests
-- of heartbeats showed.

-- Commands that no collector has taken yet. UUIDs are of version 7: in the order
-- in which they were given.
CREATE TABLE agent_command (
    uid uuid PRIMARY KEY,
    node_uid uuid NOT NULL,
    -- assettrack.v1.AgentCommand.
    command bytea NOT NULL,
    create_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL
);

-- Whether collectors consume: one row.
CREATE TABLE consumption (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    paused boolean NOT NULL,
    reason text NOT NULL,
    change_time timestamptz
);
INSERT INTO consumption (paused, reason) VALUES (false, '');

-- The newest comparison of a heartbeat with what is recorded: all of its kinds
-- were complete as of it, but for those in `kind_gap`.
ALTER TABLE node
    ADD COLUMN compare_time timestamptz,
    ADD COLUMN compare_stream uuid,
    ADD COLUMN compare_sequence bigint,
    -- When a new stream was last asked for, and how often since none was needed.
    ADD COLUMN new_stream_time timestamptz,
    ADD COLUMN new_stream_count integer NOT NULL DEFAULT 0,
    -- When a person said that it will not return.
    ADD COLUMN retire_time timestamptz;

-- Each heartbeat writes a row of `node`, so there is room to do it in its page.
ALTER TABLE node SET (fillfactor = 70);

-- What agents told, as assettrack.v1.Heartbeat of which only the digests are
-- set. Apart from `node`, as heartbeats are many and seldom tell anything new.
CREATE TABLE node_digests (
    node_uid uuid PRIMARY KEY REFERENCES node,
    -- What was compared last …
    compared bytea,
    -- … and what the newest heartbeat tells, if that could not be compared.
    reported bytea
);

-- Kinds on nodes that the newest comparison did not find complete. Written only
-- when that changes: a fleet of which all is recorded has none.
CREATE TABLE kind_gap (
    node_uid uuid NOT NULL REFERENCES node,
    kind smallint NOT NULL,
    -- The digests differ; else the agent has not scanned the kind in its stream.
    different boolean NOT NULL,
    -- ACTIVE assets of it at the newest comparison.
    count bigint NOT NULL,
    -- As of when it was last complete.
    complete_time timestamptz,
    complete_stream uuid,
    complete_sequence bigint,
    -- When a full listing was last asked for, as of which sequence, and how often
    -- since it was complete.
    resync_time timestamptz,
    resync_stream uuid,
    resync_sequence bigint,
    resync_count integer NOT NULL DEFAULT 0,
    PRIMARY KEY (node_uid, kind)
);
