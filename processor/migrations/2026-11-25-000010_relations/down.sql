DROP INDEX image_package_by_source;
ALTER TABLE asset DROP COLUMN source_package;
