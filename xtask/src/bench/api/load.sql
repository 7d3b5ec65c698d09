-- Fills an empty inventory as agents and ingest would have: nodes with 1,000
-- assets each, 60 % of them packages, 1 % gone, and people's notes on 2 %.
-- `:nodes` is how many.

-- A field of a message, with a length (encoding of protobuf.dev).
CREATE FUNCTION pg_temp.varint(number integer) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN number < 128 THEN set_byte('\x00'::bytea, 0, number)
        ELSE set_byte(set_byte('\x0000'::bytea, 0, (number & 127) | 128), 1, number >> 7) END
$$;
CREATE FUNCTION pg_temp.field(number integer, content bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT pg_temp.varint((number << 3) | 2) || pg_temp.varint(length(content)) || content
$$;
CREATE FUNCTION pg_temp.field(number integer, content text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT pg_temp.field(number, convert_to(content, 'UTF8'))
$$;

DO $$
DECLARE
    day date;
BEGIN
    PERFORM setseed(0.5);
    -- The log's days, as they would have been made in their time.
    FOR day IN SELECT (now() AT TIME ZONE 'UTC')::date - n FROM generate_series(1, 31) AS n LOOP
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF asset_event FOR VALUES FROM (%L) TO (%L)',
            'asset_event_' || to_char(day, 'YYYYMMDD'), day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
    END LOOP;
END
$$;

INSERT INTO node (uid, cluster, display_name, create_time, stream, agent_version, heartbeat_time, last_sequence)
SELECT md5('node' || n)::uuid, 'bench', 'node-' || lpad(n::text, 5, '0'), now() - interval '30 days',
    md5('stream' || n)::uuid, 'bench', now(), 1
FROM generate_series(1, :nodes) AS n;

INSERT INTO node_stream (node_uid, stream, number, received, create_time, receive_time)
SELECT uid, stream, 1, '{[1,2)}', create_time, now() FROM node;

-- What is on each node: the same names everywhere, versions that differ.
CREATE TEMPORARY TABLE thing AS
SELECT i,
    CASE WHEN i <= 600 THEN 5 WHEN i <= 750 THEN 6 WHEN i <= 850 THEN 7 WHEN i <= 950 THEN 8 ELSE 27 END::smallint
        AS kind,
    CASE WHEN i = 300 THEN 'openssl'
        WHEN i <= 600 THEN 'lib' || substr(md5('p' || i), 1, 4) || '-' || (ARRAY['dev', 'utils', 'common', 'data'])[1 + i % 4]
        WHEN i <= 750 THEN substr(md5('u' || i), 1, 6) || '.service'
        WHEN i <= 850 THEN 'mod_' || substr(md5('m' || i), 1, 6)
        WHEN i <= 950 THEN 'tcp 0.0.0.0:' || (1000 + i)
        ELSE 'app-' || i END AS display_name
FROM generate_series(1, 1000) AS i;
ANALYZE thing;

CREATE TEMPORARY TABLE fresh AS
SELECT md5('asset' || node.uid || i)::uuid AS uid, node.uid AS node_uid, kind, thing.display_name,
    CASE kind WHEN 5 THEN 'dpkg/' || thing.display_name || ':amd64' ELSE thing.display_name END AS natural_key,
    CASE WHEN random() < 0.01 THEN 2 ELSE 1 END::smallint AS state,
    (1 + i % 7) || '.' || (floor(random() * 20))::integer || '-' || (i % 3) AS version,
    decode(md5('hash' || node.uid || i), 'hex') AS state_hash,
    random() < 0.02 AS is_managed, floor(random() * 50)::integer AS team,
    now() - random() * interval '30 days' AS time, NULL::bytea AS details, NULL::bytea AS managed,
    NULL::jsonb AS attributes
FROM node CROSS JOIN thing;

CREATE FUNCTION pg_temp.details(kind smallint, name text, version text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE kind
        WHEN 5 THEN pg_temp.field(5, pg_temp.field(1, name) || pg_temp.field(2, version)
            || pg_temp.field(3, 'amd64') || pg_temp.field(4, 'dpkg')
            || pg_temp.field(7, 'Debian Maintainers <debian@example.org>') || pg_temp.field(10, 'installed')
            || pg_temp.field(11, 'a package that a benchmark made up'))
        WHEN 6 THEN pg_temp.field(6, pg_temp.field(1, name) || pg_temp.field(2, 'service'))
        WHEN 7 THEN pg_temp.field(7, pg_temp.field(1, name) || pg_temp.field(2, version))
        WHEN 8 THEN pg_temp.field(8, pg_temp.field(1, 'tcp') || pg_temp.field(2, '0.0.0.0'))
        ELSE pg_temp.field(27, pg_temp.field(1, name)) END
$$;
CREATE FUNCTION pg_temp.searchable(kind smallint, name text, version text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object('details', CASE kind
        WHEN 5 THEN jsonb_build_object('package', jsonb_build_object('package', name, 'version', version,
            'architecture', 'amd64', 'manager', 'dpkg', 'maintainer', 'Debian Maintainers <debian@example.org>',
            'status', 'installed', 'summary', 'a package that a benchmark made up'))
        WHEN 6 THEN jsonb_build_object('systemd_unit', jsonb_build_object('unit', name, 'type', 'service'))
        WHEN 7 THEN jsonb_build_object('kernel_module', jsonb_build_object('module', name, 'version', version))
        WHEN 8 THEN jsonb_build_object('listening_socket', jsonb_build_object('protocol', 'tcp', 'address', '0.0.0.0'))
        ELSE jsonb_build_object('container', jsonb_build_object('container', name)) END)
$$;

INSERT INTO asset (uid, kind, display_name, node_uid, natural_key, state, details, managed, attributes, revision,
    managed_revision, stream_number, sequence, batch_index, seen_stream_number, seen_sequence, seen_batch_index,
    state_hash, first_seen_time, remove_time, create_time, update_time)
SELECT uid, kind, display_name, node_uid, natural_key, state, pg_temp.details(kind, display_name, version),
    CASE WHEN is_managed THEN pg_temp.field(1, 'team-' || team)
        || pg_temp.field(4, pg_temp.field(1, 'env') || pg_temp.field(2, 'prod')) END,
    pg_temp.searchable(kind, display_name, version) || CASE WHEN is_managed THEN jsonb_build_object('managed',
        jsonb_build_object('owner', 'team-' || team, 'labels', jsonb_build_object('env', 'prod')))
        ELSE '{}' END,
    1, is_managed::integer, 1, 1, 0, 1, 1, 0, state_hash, time, CASE state WHEN 2 THEN time END, time, time
FROM fresh ORDER BY node_uid;

INSERT INTO asset_event (record_time, event_uid, type, asset_uid, kind, display_name, node_uid, natural_key, revision,
    managed_revision, state, details, managed, actor, observe_time, stream, sequence, batch_index)
SELECT asset.update_time, md5('event' || asset.uid)::uuid, 1, asset.uid, kind, asset.display_name, node_uid,
    natural_key, revision, managed_revision, state, details, managed, 'agent', asset.update_time, node.stream, 1, 0
FROM asset JOIN node ON node.uid = asset.node_uid ORDER BY asset.update_time;

INSERT INTO node_kind (node_uid, kind, count, sum)
SELECT node_uid, kind, count(*), mod(sum(hash_number(state_hash)), 340282366920938463463374607431768211456)
FROM asset WHERE state = 1 GROUP BY node_uid, kind;

DROP TABLE fresh, thing;
VACUUM (ANALYZE) asset;
VACUUM (ANALYZE) asset_event;
VACUUM (ANALYZE) node;
VACUUM (ANALYZE) node_kind;
