-- The log as a feed of changes (ADR 18).

-- Where a row stands in the feed, with `id` behind it: below the xmin of a
-- snapshot all rows are there. Not simply the transaction's own number: that may
-- be drawn before a lock is waited for, and so be lower than that of who held the
-- lock. But the snapshot of a statement that comes after the lock knows the holder
-- as ended, so the highest number that has ended by then is taken if it is higher,
-- and the rows of one asset stand in the order of their revisions. The default is
-- not volatile: rows that are there get one value, unwritten. The functions of
-- these names are those that answer a bigint, which can be reckoned with.
ALTER TABLE asset_event ADD COLUMN feed_xid bigint NOT NULL
    DEFAULT greatest(txid_current(), txid_snapshot_xmax(txid_current_snapshot()) - 1);
CREATE INDEX asset_event_by_feed ON asset_event (feed_xid, id);

-- What of the log can be followed. One row.
CREATE TABLE feed (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Of the database system whose transactions `feed_xid` numbers.
    system_identifier bigint NOT NULL,
    -- Rows up to this one were numbered by another system: a dump was restored.
    after_id bigint NOT NULL DEFAULT 0,
    -- When that was found; NULL if never.
    begin_time timestamptz,
    -- Highest place, and newest time, of what retention dropped; NULL: nothing.
    dropped_xid bigint,
    dropped_time timestamptz
);
INSERT INTO feed (system_identifier) SELECT system_identifier FROM pg_control_system();

-- Notes that rows of a partition, those older than `before`, will be dropped.
CREATE FUNCTION note_feed_drop(name text, before timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    newest_xid bigint;
    newest_time timestamptz;
BEGIN
    EXECUTE format(
        'SELECT (SELECT feed_xid FROM %1$I WHERE record_time < $1 ORDER BY feed_xid DESC LIMIT 1),
            (SELECT record_time FROM %1$I WHERE record_time < $1 ORDER BY record_time DESC LIMIT 1)', name)
    INTO newest_xid, newest_time USING before;
    UPDATE feed SET dropped_xid = greatest(dropped_xid, newest_xid),
        dropped_time = greatest(dropped_time, newest_time)
    WHERE newest_xid IS NOT NULL;
END
$$;
