import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { AssetState, Lifecycle } from "../gen/assettrack/v1/asset_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { bash } from "../testing/inventory";
import { diffRevisions } from "./revisionDiff";

const nic = (addresses: string[], mtu: number) =>
  bash({
    kind: AssetKind.NETWORK_INTERFACE,
    details: { details: { case: "networkInterface", value: { addresses, mtu } } },
  });

const disk = (sizeBytes: bigint) =>
  bash({ kind: AssetKind.DISK, details: { details: { case: "disk", value: { sizeBytes } } } });

test("bookkeeping alone is no change", () => {
  const later = bash({
    revision: 2n,
    managedRevision: 1n,
    etag: "m1",
    updateTime: timestampFromDate(new Date("2026-11-24T00:00:00Z")),
  });
  expect(diffRevisions(bash(), later)).toEqual([]);
});

test("an upgrade and a removal, by path", () => {
  const upgraded = bash({
    state: AssetState.REMOVED,
    details: {
      details: { case: "package", value: { package: "bash", version: "5.2.21", section: "shells" } },
    },
  });
  expect(diffRevisions(bash(), upgraded)).toEqual([
    { path: "details.package.architecture", before: ["amd64"], after: [], list: false },
    { path: "details.package.section", before: [], after: ["shells"], list: false },
    { path: "details.package.version", before: ["5.2.15-2+b7"], after: ["5.2.21"], list: false },
    { path: "state", before: ["ACTIVE"], after: ["REMOVED"], list: false },
  ]);
});

test("of a list only what came and went", () => {
  expect(
    diffRevisions(nic(["10.0.0.5/24", "fe80::1/64"], 1500), nic(["10.0.0.6/24", "fe80::1/64"], 1500)),
  ).toEqual([
    {
      path: "details.network_interface.addresses",
      before: ["10.0.0.5/24"],
      after: ["10.0.0.6/24"],
      list: true,
    },
  ]);
});

test("sizes are compared exactly, however they are shown", () => {
  const [change] = diffRevisions(disk(16_000_000_000n), disk(16_000_000_512n));
  expect(change?.before).toEqual(["16,000,000,000 B"]);
  expect(change?.after).toEqual(["16,000,000,512 B"]);
});

test("labels one by one, an empty value included", () => {
  const edited = bash({
    managed: { owner: "ops", lifecycle: Lifecycle.IN_SERVICE, labels: { env: "prod", keep: "" } },
  });
  expect(diffRevisions(bash({ managed: { labels: { env: "test" } } }), edited)).toEqual([
    { path: "managed.labels.env", before: ["test"], after: ["prod"], list: false },
    { path: "managed.labels.keep", before: [], after: ["(empty)"], list: false },
    { path: "managed.lifecycle", before: [], after: ["IN_SERVICE"], list: false },
    { path: "managed.owner", before: [], after: ["ops"], list: false },
  ]);
});
