DROP FUNCTION note_feed_drop;
DROP TABLE feed;
DROP INDEX asset_event_by_feed;
ALTER TABLE asset_event DROP COLUMN feed_xid;
