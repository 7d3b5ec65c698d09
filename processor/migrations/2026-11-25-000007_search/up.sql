-- What searches at a million assets need.

-- Ships with PostgreSQL; trusted, so that the owner of the database may create it.
CREATE EXTENSION IF NOT EXISTS pg_trgm;

-- What people recorded, apart from what agents see: an index on a part of
-- `attributes` would need new entries with every observation.
ALTER TABLE asset ADD COLUMN managed_attributes jsonb GENERATED ALWAYS AS (attributes -> 'managed') STORED;
CREATE INDEX asset_by_managed ON asset USING gin (managed_attributes jsonb_path_ops)
    WHERE managed_attributes IS NOT NULL;

-- Free text. Names and keys of an asset do not change, so only new assets cost.
CREATE INDEX asset_by_text ON asset
    USING gin (((display_name || E'\n' || natural_key) COLLATE "default") gin_trgm_ops);
