import { expect, test } from "vitest";
import { Lifecycle } from "../gen/assettrack/v1/asset_pb";
import { bash } from "../testing/inventory";
import { changedFields, type Draft, draftOf, labelProblem, managedOf, mergeDrafts } from "./managedDraft";

const BASE: Draft = {
  displayName: "rack 12",
  owner: "ops",
  lifecycle: Lifecycle.IN_SERVICE,
  location: "dc1",
  labels: [{ row: 0, key: "env", value: "prod" }],
  notes: "",
};

test("only what differs is changed; order of labels and blanks do not count", () => {
  const mine: Draft = {
    ...BASE,
    owner: " ops ",
    location: "dc2",
    labels: [
      { row: 7, key: "env ", value: "prod" },
      { row: 8, key: "", value: "" },
    ],
  };
  expect(changedFields(BASE, mine)).toEqual(["location"]);
  expect(managedOf(mine)).toMatchObject({ location: "dc2", labels: { env: "prod" } });
});

test("an asset without managed fields gives an empty draft", () => {
  expect(changedFields(draftOf(bash()), { ...draftOf(bash()), owner: "ops" })).toEqual(["owner"]);
});

test("merging keeps mine, takes theirs, and asks where both changed", () => {
  const mine: Draft = { ...BASE, owner: "platform", notes: "moved", lifecycle: Lifecycle.RETIRED };
  const theirs: Draft = {
    ...BASE,
    owner: "security",
    location: "dc3",
    lifecycle: Lifecycle.RETIRED,
  };
  const { merged, taken, conflicts } = mergeDrafts(BASE, mine, theirs);
  expect(conflicts).toEqual(["owner"]);
  expect(taken).toEqual(["location"]);
  expect(merged).toEqual({ ...mine, location: "dc3" });
});

const label = (row: number, key: string, value: string) => ({ row, key, value });

test("labels that the server would merge in silence are refused here", () => {
  expect(labelProblem([label(0, "env", "a"), label(1, " env", "b")])).toContain("twice");
  expect(labelProblem([label(0, "", "b")])).toContain("no key");
  expect(labelProblem([label(0, "", ""), label(1, "env", "")])).toBeUndefined();
});
