DROP TRIGGER asset_superseded ON asset;
DROP FUNCTION keep_superseded, create_past_partitions, past_partitions_before_horizon, drop_past_partition,
    drop_default_past;
CREATE OR REPLACE FUNCTION drop_event_partition(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF name !~ '^asset_event_[0-9]{8}$' THEN
        RAISE EXCEPTION '% is no daily partition of the log', name;
    END IF;
    EXECUTE format('DROP TABLE %I', name);
END
$$;
CREATE OR REPLACE FUNCTION carry_default_events(days integer, most integer) RETURNS bigint LANGUAGE sql AS $$
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
DROP FUNCTION advance_past_horizon;
DROP TABLE asset_past, past_horizon;
DROP INDEX asset_by_display_name;
DROP INDEX asset_by_kind;
CREATE INDEX asset_by_display_name ON asset (display_name, uid) WHERE delete_time IS NULL;
CREATE INDEX asset_by_kind ON asset (kind, display_name, uid) WHERE delete_time IS NULL;
