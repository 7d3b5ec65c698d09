import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { AssetState } from "../gen/assettrack/v1/asset_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { CollectorStatsSchema } from "../gen/assettrack/v1/collector_service_pb";
import { KindCountSchema } from "../gen/assettrack/v1/overview_service_pb";
import { busiest, kindRows, queueRows } from "./rollup";

const counted = (kind: AssetKind, state: AssetState, count: bigint) =>
  create(KindCountSchema, { kind, state, count });

test("counts of one kind stand in one row", () => {
  expect(
    kindRows([
      counted(AssetKind.PACKAGE, AssetState.REMOVED, 2n),
      counted(AssetKind.CUSTOM, AssetState.UNSPECIFIED, 1n),
      counted(AssetKind.PACKAGE, AssetState.ACTIVE, 300n),
    ]),
  ).toEqual([
    { kind: AssetKind.PACKAGE, active: 300n, removed: 2n, recorded: 0n },
    { kind: AssetKind.CUSTOM, active: 0n, removed: 0n, recorded: 1n },
  ]);
});

const COLLECTORS = [
  create(CollectorStatsSchema, {
    collector: "a",
    queues: [{ queue: "events.0", depth: 9n, measureTime: timestampFromMs(1_000) }],
    nodeKinds: [{ node: "nodes/1", kind: AssetKind.PACKAGE, eventsLastHour: 5n }],
  }),
  create(CollectorStatsSchema, {
    collector: "b",
    queues: [{ queue: "events.0", depth: 4n, measureTime: timestampFromMs(2_000) }],
    nodeKinds: [
      { node: "nodes/2", kind: AssetKind.DISK, eventsLastHour: 7n },
      { node: "nodes/1", kind: AssetKind.PACKAGE, eventsLastHour: 6n },
    ],
  }),
];

test("a queue that two collectors report counts once, by the newer look", () => {
  expect(queueRows(COLLECTORS).map(({ queue, depth }) => [queue, depth])).toEqual([
    ["events.0", 4n],
  ]);
});

test("events of one node and kind add up over collectors", () => {
  expect(busiest(COLLECTORS, 1).map(({ node, eventsLastHour }) => [node, eventsLastHour])).toEqual([
    ["nodes/1", 11n],
  ]);
});
