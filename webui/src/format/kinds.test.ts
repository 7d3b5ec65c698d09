import { expect, test } from "vitest";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { grouped, KIND_GROUPS } from "./kinds";
import { KINDS } from "./names";

test("every kind stands in one group", () => {
  const kinds = KIND_GROUPS.flatMap((group) => group.kinds);
  expect(kinds.toSorted((one, other) => one - other)).toEqual(
    KINDS.toSorted((one, other) => one - other),
  );
  expect(KIND_GROUPS.map(({ label }) => label)).not.toContain("Other");
});

test("a kind of a newer version is not lost, and empty groups are left out", () => {
  expect(grouped([77 as AssetKind, AssetKind.SWAP, AssetKind.DISK])).toEqual([
    { label: "Storage", kinds: [AssetKind.DISK, AssetKind.SWAP] },
    { label: "Other", kinds: [77] },
  ]);
});
