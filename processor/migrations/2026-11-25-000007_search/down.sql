CREATE INDEX asset_by_kind_and_state ON asset (kind, state) WHERE delete_time IS NULL;
DROP INDEX asset_not_active;
DROP INDEX asset_by_text;
ALTER TABLE asset DROP COLUMN managed_attributes;
DROP EXTENSION pg_trgm;
