-- Packages by their source packages, which advisories name.

-- On nodes. Names come from nodes and images, so they may be longer than an
-- index takes.
CREATE INDEX asset_by_source_package ON asset (left(attributes #>> '{details,package,source}', 200))
    WHERE kind = 5 AND attributes #>> '{details,package,source}' IS NOT NULL;
CREATE INDEX image_package_by_source ON image_package (left(source, 200)) WHERE source <> '';
