DROP INDEX image_package_by_source;
DROP INDEX asset_by_source_package;
