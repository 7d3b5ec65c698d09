import { AssetState } from "../gen/assettrack/v1/asset_pb";
import type { AssetKind } from "../gen/assettrack/v1/kind_pb";
import type {
  CollectorStats,
  NodeKindStats,
  QueueStats,
} from "../gen/assettrack/v1/collector_service_pb";
import type { KindCount } from "../gen/assettrack/v1/overview_service_pb";
import { millis } from "../format/time";

/** Assets of one kind by state. */
export interface KindRow {
  kind: AssetKind;
  active: bigint;
  removed: bigint;
  /** Made by people: no agent sees them. */
  recorded: bigint;
}

/** One row a kind, in order of kind. */
export function kindRows(counts: readonly KindCount[]): KindRow[] {
  const rows = new Map<AssetKind, KindRow>();
  for (const { kind, state, count } of counts) {
    const row = rows.get(kind) ?? { kind, active: 0n, removed: 0n, recorded: 0n };
    if (state === AssetState.ACTIVE) {
      row.active += count;
    } else if (state === AssetState.REMOVED) {
      row.removed += count;
    } else {
      row.recorded += count;
    }
    rows.set(kind, row);
  }
  return [...rows.values()].toSorted((one, other) => one.kind - other.kind);
}

/**
 * Each queue once, by the collector that asked the broker last: all collectors
 * consume the same queues, so adding up would count twice.
 */
export function queueRows(collectors: readonly CollectorStats[]): QueueStats[] {
  const newest = new Map<string, QueueStats>();
  for (const queue of collectors.flatMap((collector) => collector.queues)) {
    const known = newest.get(queue.queue);
    if (!known || (millis(queue.measureTime) ?? 0) > (millis(known.measureTime) ?? 0)) {
      newest.set(queue.queue, queue);
    }
  }
  return [...newest.values()].toSorted((one, other) => (one.queue < other.queue ? -1 : 1));
}

/** The busiest nodes and kinds of the last hour; every event was counted by one collector. */
export function busiest(collectors: readonly CollectorStats[], most: number): NodeKindStats[] {
  const sums = new Map<string, NodeKindStats>();
  for (const stats of collectors.flatMap((collector) => collector.nodeKinds)) {
    const key = `${stats.node} ${stats.kind}`;
    const sum = sums.get(key);
    sums.set(
      key,
      sum
        ? {
            ...sum,
            eventsLastMinute: sum.eventsLastMinute + stats.eventsLastMinute,
            eventsLast5Minutes: sum.eventsLast5Minutes + stats.eventsLast5Minutes,
            eventsLastHour: sum.eventsLastHour + stats.eventsLastHour,
          }
        : stats,
    );
  }
  return [...sums.values()]
    .toSorted((one, other) => Number(other.eventsLastHour - one.eventsLastHour))
    .slice(0, most);
}
