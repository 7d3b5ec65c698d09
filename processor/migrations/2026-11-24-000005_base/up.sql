-- What retention keeps of the log's days that it drops, and how far the scrub is.

-- The newest revision of each asset in the days that were dropped, as the log
-- had it: fold = base + log. Its columns are those of the log.
CREATE TABLE asset_base (LIKE asset_event, PRIMARY KEY (asset_uid));
ALTER TABLE asset_base ALTER COLUMN revision SET NOT NULL;
CREATE INDEX asset_base_by_node ON asset_base (node_uid);

-- The log's daily partitions that end at least `days` days (UTC) before today,
-- oldest first.
CREATE FUNCTION event_partitions_before(days integer) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT relname::text FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'asset_event'::regclass AND relname ~ '^asset_event_[0-9]{8}$'
        AND to_date(right(relname, 8), 'YYYYMMDD') < (now() AT TIME ZONE 'UTC')::date - days
    ORDER BY relname
$$;

-- Carries the newest revision of each asset in a partition into the base, and
-- tells of how many. Nothing can be added to the partition until the end of the
-- transaction, so that it can be dropped in it.
CREATE FUNCTION carry_event_partition(name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    carried bigint;
BEGIN
    EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', name);
    -- The older never replaces the newer, so the order of the days does not matter.
    EXECUTE format(
        'INSERT INTO asset_base AS base (record_time, id, event_uid, type, asset_uid, kind, display_name,
            node_uid, natural_key, revision, managed_revision, state, details, managed, changed_fields, actor,
            observe_time, stream, sequence, batch_index)
        SELECT DISTINCT ON (asset_uid) record_time, id, event_uid, type, asset_uid, kind, display_name,
            node_uid, natural_key, revision, managed_revision, state, details, managed, changed_fields, actor,
            observe_time, stream, sequence, batch_index
        FROM %I WHERE revision IS NOT NULL ORDER BY asset_uid, revision DESC
        ON CONFLICT (asset_uid) DO UPDATE SET record_time = excluded.record_time, id = excluded.id,
            event_uid = excluded.event_uid, type = excluded.type, kind = excluded.kind,
            display_name = excluded.display_name, node_uid = excluded.node_uid,
            natural_key = excluded.natural_key, revision = excluded.revision,
            managed_revision = excluded.managed_revision, state = excluded.state, details = excluded.details,
            managed = excluded.managed, changed_fields = excluded.changed_fields, actor = excluded.actor,
            observe_time = excluded.observe_time, stream = excluded.stream, sequence = excluded.sequence,
            batch_index = excluded.batch_index
        WHERE excluded.revision > base.revision', name);
    GET DIAGNOSTICS carried = ROW_COUNT;
    RETURN carried;
END
$$;

CREATE FUNCTION drop_event_partition(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF name !~ '^asset_event_[0-9]{8}$' THEN
        RAISE EXCEPTION '% is no daily partition of the log', name;
    END IF;
    EXECUTE format('DROP TABLE %I', name);
END
$$;

-- Takes at most `most` rows out of the default partition that are as old as what
-- `event_partitions_before` names, oldest first, and carries the newest revision
-- of each asset among them into the base. Tells how many rows were taken.
CREATE FUNCTION carry_default_events(days integer, most integer) RETURNS bigint LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM asset_event_default WHERE (record_time, id) IN (
            SELECT record_time, id FROM asset_event_default
            WHERE record_time < (date_trunc('day', now() AT TIME ZONE 'UTC') - make_interval(days => days))
                AT TIME ZONE 'UTC'
            ORDER BY record_time, id LIMIT most)
        RETURNING *
    ), carried AS (
        INSERT INTO asset_base AS base (record_time, id, event_uid, type, asset_uid, kind, display_name,
            node_uid, natural_key, revision, managed_revision, state, details, managed, changed_fields, actor,
            observe_time, stream, sequence, batch_index)
        SELECT DISTINCT ON (asset_uid) record_time, id, event_uid, type, asset_uid, kind, display_name,
            node_uid, natural_key, revision, managed_revision, state, details, managed, changed_fields, actor,
            observe_time, stream, sequence, batch_index
        FROM gone WHERE revision IS NOT NULL ORDER BY asset_uid, revision DESC
        ON CONFLICT (asset_uid) DO UPDATE SET record_time = excluded.record_time, id = excluded.id,
            event_uid = excluded.event_uid, type = excluded.type, kind = excluded.kind,
            display_name = excluded.display_name, node_uid = excluded.node_uid,
            natural_key = excluded.natural_key, revision = excluded.revision,
            managed_revision = excluded.managed_revision, state = excluded.state, details = excluded.details,
            managed = excluded.managed, changed_fields = excluded.changed_fields, actor = excluded.actor,
            observe_time = excluded.observe_time, stream = excluded.stream, sequence = excluded.sequence,
            batch_index = excluded.batch_index
        WHERE excluded.revision > base.revision
    )
    SELECT count(*) FROM gone
$$;

-- How far the scrub's round over the nodes is, so that it goes on after a
-- change of the replica. One row.
CREATE TABLE scrub_round (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- Nodes up to this one are done; NULL before the first and after the last.
    after_node uuid,
    begin_time timestamptz NOT NULL,
    -- NULL while it goes on.
    end_time timestamptz
);
