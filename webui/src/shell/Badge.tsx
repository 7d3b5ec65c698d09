import { AssetState } from "../gen/assettrack/v1/asset_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { CollectorState } from "../gen/assettrack/v1/collector_service_pb";
import type { DeadLetterReason } from "../gen/assettrack/v1/dead_letter_service_pb";
import { EventType } from "../gen/assettrack/v1/event_pb";
import { Completeness, NodeHealth } from "../gen/assettrack/v1/node_service_pb";
import {
  collectorStateName,
  completenessName,
  eventTypeName,
  healthName,
  kindName,
  reasonName,
  stateName,
} from "../format/names";

type Tone = "good" | "bad" | "warn" | "info" | "plain";

// Never by colour alone: the word is always there.
function Badge({ tone, text }: { tone: Tone; text: string }) {
  return <span className={`badge is-${tone}`}>{text}</span>;
}

export function KindTag({ kind }: { kind: AssetKind }) {
  return <span className="kind">{kindName(kind)}</span>;
}

/** Observed presence, or that a person deleted the record. */
export function StateBadge({ state, deleted }: { state: AssetState; deleted?: boolean }) {
  if (deleted) {
    return <Badge tone="bad" text="DELETED" />;
  }
  switch (state) {
    case AssetState.UNSPECIFIED:
      return <Badge tone="plain" text="RECORDED" />;
    case AssetState.ACTIVE:
      return <Badge tone="good" text={stateName(state)} />;
    default:
      return <Badge tone="warn" text={stateName(state)} />;
  }
}

const HEALTH_TONE: Record<NodeHealth, Tone> = {
  [NodeHealth.UNSPECIFIED]: "plain",
  [NodeHealth.HEALTHY]: "good",
  [NodeHealth.STALE]: "bad",
  [NodeHealth.UNKNOWN]: "warn",
  [NodeHealth.RETIRED]: "plain",
};

export function HealthBadge({ health }: { health: NodeHealth }) {
  return <Badge tone={HEALTH_TONE[health] ?? "plain"} text={healthName(health)} />;
}

const COMPLETENESS_TONE: Record<Completeness, Tone> = {
  [Completeness.UNSPECIFIED]: "plain",
  [Completeness.COMPLETE]: "good",
  [Completeness.INCOMPLETE]: "bad",
  [Completeness.UNKNOWN]: "warn",
};

/** Whether all that an agent knows is recorded. */
export function CompletenessBadge({ completeness }: { completeness: Completeness }) {
  return (
    <Badge
      tone={COMPLETENESS_TONE[completeness] ?? "plain"}
      text={completenessName(completeness)}
    />
  );
}

/** Two agents speak under one identity. */
export function ConflictBadge() {
  return <Badge tone="bad" text="IDENTITY CONFLICT" />;
}

const EVENT_TONE: Record<EventType, Tone> = {
  [EventType.UNSPECIFIED]: "plain",
  [EventType.APPEARED]: "good",
  [EventType.CHANGED]: "info",
  [EventType.REMOVED]: "warn",
  [EventType.CREATED]: "good",
  [EventType.UNDELETED]: "info",
  [EventType.EDITED]: "info",
  [EventType.DELETED]: "bad",
};

export function EventTypeBadge({ type }: { type: EventType }) {
  return <Badge tone={EVENT_TONE[type] ?? "plain"} text={eventTypeName(type)} />;
}

const COLLECTOR_TONE: Record<CollectorState, Tone> = {
  [CollectorState.UNSPECIFIED]: "plain",
  [CollectorState.CONSUMING]: "good",
  [CollectorState.DISCONNECTED]: "bad",
  [CollectorState.HOLDING]: "warn",
  [CollectorState.PAUSED]: "warn",
};

export function CollectorBadge({ state }: { state: CollectorState }) {
  return <Badge tone={COLLECTOR_TONE[state] ?? "plain"} text={collectorStateName(state)} />;
}

/** Why a message could not be applied. */
export function ReasonBadge({ reason }: { reason: DeadLetterReason }) {
  return <Badge tone="bad" text={reasonName(reason)} />;
}
