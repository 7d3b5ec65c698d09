DROP TABLE signing_key, collector_contact, dead_letter, asset_event, asset, pending_snapshot, node_stream, node;
DROP FUNCTION create_event_partitions(integer);
DROP SEQUENCE asset_event_id_seq;
