-- What proves that nothing is missing: digests of kinds on nodes, and sequences
-- that can never be applied.

-- A state hash as the number that digests add up.
CREATE FUNCTION hash_number(hash bytea) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    -- bit(64) becomes a signed number: modulo makes it the unsigned one.
    SELECT mod(18446744073709551616 + ('x' || encode(substr(hash, 1, 8), 'hex'))::bit(64)::bigint::numeric,
            18446744073709551616) * 18446744073709551616
        + mod(18446744073709551616 + ('x' || encode(substr(hash, 9, 8), 'hex'))::bit(64)::bigint::numeric,
            18446744073709551616)
$$;

-- Digest of each kind on each node: ACTIVE assets, and the sum of their state
-- hashes modulo 2^128. Written with the assets, under the node's lock.
CREATE TABLE node_kind (
    node_uid uuid NOT NULL REFERENCES node,
    kind smallint NOT NULL,
    count bigint NOT NULL DEFAULT 0,
    sum numeric NOT NULL DEFAULT 0,
    PRIMARY KEY (node_uid, kind)
);
INSERT INTO node_kind (node_uid, kind, count, sum)
SELECT node_uid, kind, count(*), mod(sum(hash_number(state_hash)), 340282366920938463463374607431768211456)
FROM asset WHERE node_uid IS NOT NULL AND state = 1 AND length(state_hash) = 16
GROUP BY node_uid, kind;

-- Sequences of messages that can never be applied: they count as received. Not
-- bound to a stream, as the first message of one may be such.
CREATE TABLE waived_sequence (
    node_uid uuid NOT NULL,
    stream uuid NOT NULL,
    sequence bigint NOT NULL,
    -- Kinds that the message was about; none if that could not be told.
    kinds smallint[] NOT NULL,
    waive_time timestamptz NOT NULL,
    PRIMARY KEY (node_uid, stream, sequence)
);

-- When something of the stream last came that was new.
ALTER TABLE node_stream ADD COLUMN receive_time timestamptz;

-- Place in a stream that a dead letter says it has. Not proven.
ALTER TABLE dead_letter ADD COLUMN stream uuid, ADD COLUMN sequence bigint;
CREATE INDEX dead_letter_by_time ON dead_letter (create_time DESC, uid DESC);
CREATE INDEX dead_letter_by_node ON dead_letter (node_uid, create_time DESC, uid DESC);

-- Assets come and go with thousands of events a second, always under the lock of
-- their node, and nodes are never deleted: looking it up for each costs a third.
ALTER TABLE asset DROP CONSTRAINT asset_node_uid_fkey;
-- Room for new versions of rows beside the old ones, so that indexes need no new
-- entries where none of their columns changed.
ALTER TABLE asset SET (fillfactor = 80);
