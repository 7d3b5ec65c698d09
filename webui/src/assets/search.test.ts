import { expect, test } from "vitest";
import { AssetState } from "../gen/assettrack/v1/asset_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { type AssetSearch, assetsPath, filterOfSearch, paramsOfSearch, searchOfParams } from "./search";

const FULL: AssetSearch = {
  text: 'display_name:"lib*" OR bash',
  kind: AssetKind.PACKAGE,
  state: AssetState.REMOVED,
  node: "00000000-0000-5000-8000-0000000000ff",
  deleted: true,
};

test("the URL holds all of a search", () => {
  expect(searchOfParams(paramsOfSearch(FULL))).toEqual(FULL);
  expect(searchOfParams(new URLSearchParams())).toEqual({
    text: "",
    kind: undefined,
    state: undefined,
    node: "",
    deleted: false,
  });
});

test("what a URL gets wrong counts as absent", () => {
  const search = searchOfParams(new URLSearchParams("kind=ASSET_KIND_PACKAGE&state=5&deleted=yes"));
  expect(filterOfSearch(search)).toBe("");
  expect(search.deleted).toBe(false);
});

test("facets and text become one filter", () => {
  expect(filterOfSearch(FULL)).toBe(
    'display_name:"lib*" OR bash AND kind=PACKAGE AND state=REMOVED' +
      ' AND node="nodes/00000000-0000-5000-8000-0000000000ff"',
  );
});

test("a link names only what narrows", () => {
  expect(assetsPath({})).toBe("/assets");
  expect(assetsPath({ kind: AssetKind.DISK, state: AssetState.ACTIVE })).toBe(
    "/assets?kind=DISK&state=ACTIVE",
  );
});
