DROP TABLE kind_gap, node_digests;
ALTER TABLE node RESET (fillfactor);
ALTER TABLE node DROP COLUMN compare_time, DROP COLUMN compare_stream, DROP COLUMN compare_sequence,
    DROP COLUMN new_stream_time, DROP COLUMN new_stream_count, DROP COLUMN retire_time;
DROP TABLE consumption, agent_command;
