-- What is in container images, and nodes under whose identity two agents speak.

-- A container image of which packages were told. Its row is the lock of its lists.
CREATE TABLE image (
    -- Version 5 of the digest, which may be too long for an index.
    uid uuid PRIMARY KEY,
    digest text NOT NULL,
    create_time timestamptz NOT NULL
);

-- Lists of the packages in an image: one that is complete at most, and those of
-- which not every part has arrived.
CREATE TABLE image_content (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    image_uid uuid NOT NULL REFERENCES image,
    -- assettrack.v1.ImageContentSource.
    source smallint NOT NULL,
    content_hash bytea NOT NULL,
    parts integer NOT NULL,
    received int4multirange NOT NULL DEFAULT '{}',
    create_time timestamptz NOT NULL,
    complete_time timestamptz,
    UNIQUE (image_uid, source, content_hash, parts)
);

-- A package in a list, by its place there.
CREATE TABLE image_package (
    content_id bigint NOT NULL REFERENCES image_content ON DELETE CASCADE,
    part integer NOT NULL,
    place integer NOT NULL,
    package text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    architecture text COLLATE "C" NOT NULL,
    manager text NOT NULL,
    source text NOT NULL,
    source_version text NOT NULL,
    maintainer text NOT NULL,
    section text NOT NULL,
    installed_size_bytes bigint NOT NULL,
    status text NOT NULL,
    summary text NOT NULL,
    license text NOT NULL,
    homepage text NOT NULL,
    PRIMARY KEY (content_id, part, place)
);
-- Names come out of images, so they may be longer than an index takes.
CREATE INDEX image_package_by_name ON image_package (left(package, 200));

-- On which nodes an image is. A hash, as natural keys may be long too.
CREATE INDEX asset_image_by_key ON asset USING hash (natural_key) WHERE kind = 28;

-- When a heartbeat last said that another agent has the same identity.
ALTER TABLE node ADD COLUMN identity_conflict_time timestamptz;
