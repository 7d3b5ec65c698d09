DROP TABLE scrub_round;
DROP FUNCTION carry_default_events(integer, integer);
DROP FUNCTION drop_event_partition(text);
DROP FUNCTION carry_event_partition(text);
DROP FUNCTION event_partitions_before(integer);
DROP TABLE asset_base;
