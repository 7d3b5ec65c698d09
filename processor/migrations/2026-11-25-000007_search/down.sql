DROP INDEX asset_by_text;
ALTER TABLE asset DROP COLUMN managed_attributes;
DROP EXTENSION pg_trgm;
