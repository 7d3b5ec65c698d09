ALTER TABLE asset RESET (fillfactor);
ALTER TABLE asset ADD CONSTRAINT asset_node_uid_fkey FOREIGN KEY (node_uid) REFERENCES node;
DROP INDEX dead_letter_by_node, dead_letter_by_time;
ALTER TABLE dead_letter DROP COLUMN stream, DROP COLUMN sequence;
ALTER TABLE node_stream DROP COLUMN receive_time;
DROP TABLE waived_sequence, node_kind;
DROP FUNCTION hash_number;
