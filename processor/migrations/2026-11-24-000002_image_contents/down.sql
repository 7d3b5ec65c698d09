ALTER TABLE node DROP COLUMN identity_conflict_time;
DROP INDEX asset_image_by_key;
DROP TABLE image_package, image_content, image;
