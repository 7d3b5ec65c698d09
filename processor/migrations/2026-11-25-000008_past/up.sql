-- What assets were like before: the states that revisions superseded, so that the
-- inventory can be read as it was at an earlier time (ADR 20).

-- A state that is believed no more. What never changes of an asset stands in its
-- row of `asset`; the encoded details and managed fields stand in the log.
CREATE TABLE asset_past (
    uid uuid NOT NULL,
    revision bigint NOT NULL,
    managed_revision bigint NOT NULL,
    -- Believed from when it was recorded until the next one was.
    update_time timestamptz NOT NULL,
    until_time timestamptz NOT NULL,
    remove_time timestamptz,
    delete_time timestamptz,
    state smallint NOT NULL,
    -- Whether the next one has another display name.
    renamed boolean NOT NULL,
    display_name text COLLATE "C" NOT NULL,
    attributes jsonb NOT NULL
) PARTITION BY RANGE (until_time);
-- Each event writes to it: as small as can be. Equal keys share their entry.
CREATE INDEX asset_past_by_uid ON asset_past (uid);
-- Names of what has another one now, for lists by name.
CREATE INDEX asset_past_by_name ON asset_past (display_name, uid) WHERE renamed;
-- Catches what no monthly partition covers, so that nothing is ever refused.
CREATE TABLE asset_past_default PARTITION OF asset_past DEFAULT;

-- Makes the monthly partitions (UTC) from this month to `months` months ahead.
-- Not daily: to read an asset as it was, each partition since then is looked into.
CREATE FUNCTION create_past_partitions(months integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    month timestamp;
    name text;
    created integer := 0;
BEGIN
    FOR month IN SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => n)
        FROM generate_series(0, months) AS n
    LOOP
        name := 'asset_past_' || to_char(month, 'YYYYMM');
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        BEGIN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF asset_past FOR VALUES FROM (%L) TO (%L)',
                name, month::text || '+00', (month + interval '1 month')::text || '+00');
            created := created + 1;
        EXCEPTION WHEN check_violation THEN
            RAISE WARNING 'no partition for %: the default partition has rows of it', month;
        END;
    END LOOP;
    RETURN created;
END
$$;
SELECT create_past_partitions(2);

-- Keeps the state that an update supersedes, whoever updates: ingest, an edit, the
-- scrub, or a processor of the version before this one.
-- Its plan is kept for the session: one that was made for a few rows would compare
-- each of a thousand with each.
CREATE FUNCTION keep_superseded() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
    INSERT INTO asset_past (uid, revision, managed_revision, update_time, until_time, remove_time,
        delete_time, state, renamed, display_name, attributes)
    SELECT before.uid, before.revision, before.managed_revision, before.update_time, after.update_time,
        before.remove_time, before.delete_time, before.state, before.display_name <> after.display_name,
        before.display_name, before.attributes
    FROM old_rows AS before JOIN new_rows AS after ON after.uid = before.uid
    WHERE after.revision <> before.revision AND after.update_time > before.update_time;
    RETURN NULL;
END
$$;
-- Waits for those who write to the table; others wait for the end of this
-- migration.
CREATE TRIGGER asset_superseded AFTER UPDATE ON asset
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION keep_superseded();

-- Since when the inventory can be read as it was: from now on, and later what
-- retention keeps. One row.
CREATE TABLE past_horizon (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    earliest_time timestamptz NOT NULL
);
-- After all that was written without the trigger.
INSERT INTO past_horizon (earliest_time) VALUES (clock_timestamp());

-- Says that from now on nothing before a time can be read.
CREATE FUNCTION advance_past_horizon(to_time timestamptz) RETURNS void LANGUAGE sql AS $$
    UPDATE past_horizon SET earliest_time = to_time WHERE earliest_time < to_time
$$;

-- Lists of an earlier time show what has been deleted since. Few are deleted, so
-- an index of all serves both.
CREATE INDEX asset_by_any_display_name ON asset (display_name, uid);
CREATE INDEX asset_by_any_kind ON asset (kind, display_name, uid);
DROP INDEX asset_by_display_name;
DROP INDEX asset_by_kind;
ALTER INDEX asset_by_any_display_name RENAME TO asset_by_display_name;
ALTER INDEX asset_by_any_kind RENAME TO asset_by_kind;

-- What people ever recorded anything of: few, and the only ones that a search for
-- what was recorded earlier has to look at.
CREATE INDEX asset_ever_managed ON asset (display_name, uid) WHERE managed_revision > 0;

-- The log's days that are dropped take the time before their end with them.
CREATE OR REPLACE FUNCTION drop_event_partition(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF name !~ '^asset_event_[0-9]{8}$' THEN
        RAISE EXCEPTION '% is no daily partition of the log', name;
    END IF;
    PERFORM advance_past_horizon((to_date(right(name, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC');
    EXECUTE format('DROP TABLE %I', name);
END
$$;

-- Partitions that end at or before the horizon, oldest first.
CREATE FUNCTION past_partitions_before_horizon() RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT relname::text FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'asset_past'::regclass AND relname ~ '^asset_past_[0-9]{6}$'
        AND (to_date(right(relname, 6), 'YYYYMM') + interval '1 month') AT TIME ZONE 'UTC'
            <= (SELECT earliest_time FROM past_horizon)
    ORDER BY relname
$$;

CREATE FUNCTION drop_past_partition(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF name !~ '^asset_past_[0-9]{6}$' THEN
        RAISE EXCEPTION '% is no monthly partition of superseded states', name;
    END IF;
    EXECUTE format('DROP TABLE %I', name);
END
$$;

-- Deletes at most `most` rows of the default partition that nobody can read any
-- more. Tells how many.
CREATE FUNCTION drop_default_past(most integer) RETURNS bigint LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM asset_past_default WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM asset_past_default
            WHERE until_time <= (SELECT earliest_time FROM past_horizon) LIMIT most))
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$;

-- As before, and the horizon goes with what is taken.
CREATE OR REPLACE FUNCTION carry_default_events(days integer, most integer) RETURNS bigint LANGUAGE sql AS $$
    -- Some of them may go now: nothing before the end of the newest can be read.
    SELECT advance_past_horizon(
        (date_trunc('day', now() AT TIME ZONE 'UTC') - make_interval(days => days)) AT TIME ZONE 'UTC')
    WHERE EXISTS (SELECT FROM asset_event_default WHERE record_time
        < (date_trunc('day', now() AT TIME ZONE 'UTC') - make_interval(days => days)) AT TIME ZONE 'UTC');
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
