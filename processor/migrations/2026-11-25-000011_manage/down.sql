DROP INDEX asset_managed;
DROP TABLE custom_field;
DROP TABLE saved_search;
DROP TABLE request;
