import { AssetState, Lifecycle } from "../gen/assettrack/v1/asset_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { CollectorState } from "../gen/assettrack/v1/collector_service_pb";
import { EventType } from "../gen/assettrack/v1/event_pb";
import { RelationType } from "../gen/assettrack/v1/details_pb";
import { Completeness, NodeHealth } from "../gen/assettrack/v1/node_service_pb";

// Enum values in their short form, `PACKAGE` and not `ASSET_KIND_PACKAGE`: as
// filters take them. A value that this build does not know is shown as its
// number.
export const kindName = (kind: AssetKind): string => AssetKind[kind] ?? String(kind);
export const stateName = (state: AssetState): string => AssetState[state] ?? String(state);
export const lifecycleName = (value: Lifecycle): string => Lifecycle[value] ?? String(value);
export const eventTypeName = (type: EventType): string => EventType[type] ?? String(type);
export const healthName = (health: NodeHealth): string => NodeHealth[health] ?? String(health);
export const completenessName = (completeness: Completeness): string =>
  Completeness[completeness] ?? String(completeness);
export const collectorStateName = (state: CollectorState): string =>
  CollectorState[state] ?? String(state);

/** `PART_OF` → `Part of`. */
export function relationPhrase(type: RelationType): string {
  const words = (RelationType[type] ?? "RELATED_TO").replaceAll("_", " ").toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function valuesOf<E extends number>(type: Record<string, E | string>): E[] {
  const values: E[] = [];
  for (const value of Object.values(type)) {
    if (typeof value === "number" && value !== 0) {
      values.push(value);
    }
  }
  return values;
}

// All values but the unspecified one.
export const KINDS: readonly AssetKind[] = valuesOf<AssetKind>(AssetKind);
export const EVENT_TYPES: readonly EventType[] = valuesOf<EventType>(EventType);
export const LIFECYCLES: readonly Lifecycle[] = valuesOf<Lifecycle>(Lifecycle);

/** The kind of this short name; undefined for any other text. */
export function kindOf(name: string | null): AssetKind | undefined {
  return KINDS.find((kind) => kindName(kind) === name);
}

/** The event type of this short name; undefined for any other text. */
export function eventTypeOf(name: string | null): EventType | undefined {
  return EVENT_TYPES.find((type) => eventTypeName(type) === name);
}

/** The part of a resource name after its collection: the UUID of `assets/{uuid}`. */
export function resourceId(name: string): string {
  return name.slice(name.indexOf("/") + 1);
}
