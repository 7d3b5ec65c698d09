-- Packages by their source packages, which advisories name.

-- A column, as an index on a part of `attributes` would get new entries whenever
-- an asset changes. Names come from nodes, so they may be longer than an index
-- takes.
ALTER TABLE asset ADD COLUMN source_package text COLLATE "C" GENERATED ALWAYS AS
    (CASE WHEN kind = 5 THEN left(attributes #>> '{details,package,source}', 200) END) STORED;
CREATE INDEX asset_by_source_package ON asset (source_package) WHERE source_package IS NOT NULL;
CREATE INDEX image_package_by_source ON image_package (left(source, 200)) WHERE source <> '';
