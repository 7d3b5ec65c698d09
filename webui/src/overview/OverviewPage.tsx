import type { ReactNode } from "react";
import { Link } from "react-router";
import { EventTable } from "../events/EventTable";
import { useNewestEvents } from "../events/queries";
import { collectorStateName, healthName } from "../format/names";
import { count } from "../format/number";
import { FreshnessNote } from "../freshness/FreshnessNote";
import { QueryView } from "../freshness/QueryView";
import { CollectorState } from "../gen/assettrack/v1/collector_service_pb";
import { NodeHealth } from "../gen/assettrack/v1/node_service_pb";
import type { Overview } from "../gen/assettrack/v1/overview_service_pb";
import { Page } from "../shell/Page";
import { CollectorPanel, QueuePanel } from "./Pipeline";
import { KindPanel } from "./KindPanel";
import { OVERVIEW_EVERY_MS, useOverview } from "./queries";
import { TrafficPanel } from "./TrafficPanel";

export default function OverviewPage() {
  const query = useOverview();
  return (
    <Page
      title="Overview"
      aside={
        <FreshnessNote
          query={query}
          everyMs={OVERVIEW_EVERY_MS}
          partial={(query.data?.unavailable.length ?? 0) > 0}
        />
      }
    >
      <QueryView query={query} what="The overview could not be read">
        {(overview) => <Content overview={overview} />}
      </QueryView>
      <NewestEvents />
    </Page>
  );
}

function Content({ overview }: { overview: Overview }) {
  return (
    <>
      {overview.unavailable.length > 0 && (
        <div className="problem is-warning" role="alert">
          <p className="problem-title">This is not the whole picture</p>
          <ul className="violations">
            {overview.unavailable.map(({ part, reason }) => (
              <li key={part}>
                <code>{part}</code> {reason}
              </li>
            ))}
          </ul>
        </div>
      )}
      <Tiles overview={overview} />
      <div className="columns">
        <KindPanel counts={overview.kinds} measured={overview.measureTime} />
        <div>
          <QueuePanel collectors={overview.collectors} />
          <TrafficPanel collectors={overview.collectors} />
        </div>
      </div>
      <CollectorPanel collectors={overview.collectors} />
    </>
  );
}

/** For a number that cannot be told: its part of the system does not answer. */
const UNKNOWN = "–";

function Tiles({ overview }: { overview: Overview }) {
  // The processor's part is missing as a whole if it has no time.
  const counted = overview.measureTime !== undefined;
  const healthy = nodesOf(overview, NodeHealth.HEALTHY);
  // A retired node is not missed.
  const all = overview.nodes.reduce(
    (sum, nodes) => (nodes.health === NodeHealth.RETIRED ? sum : sum + nodes.count),
    0n,
  );
  const collectors = overview.collectors.length;
  const idle = overview.collectors.filter(({ state }) => state !== CollectorState.CONSUMING);
  return (
    <ul className="tiles">
      <Tile
        name="Healthy nodes"
        to="/nodes"
        value={counted ? `${count(healthy)} of ${count(all)}` : UNKNOWN}
        bad={healthy < all}
      >
        <NodeNote overview={overview} />
      </Tile>
      <Tile
        name="Events in the last hour"
        to="/events"
        value={counted ? count(overview.eventsLastHour) : UNKNOWN}
      />
      <Tile
        name="Dead letters"
        value={counted ? count(overview.deadLetters) : UNKNOWN}
        bad={overview.deadLetters > 0n}
      >
        {overview.deadLetters > 0n && "could not be applied; a person has to look"}
      </Tile>
      <Tile
        name="Collectors consuming"
        value={collectors > 0 ? `${collectors - idle.length} of ${collectors}` : UNKNOWN}
        bad={collectors === 0 || idle.length > 0}
      >
        {collectors === 0
          ? "none answers"
          : idle.map(({ state }) => collectorStateName(state)).join(", ")}
      </Tile>
    </ul>
  );
}

interface TileProps {
  name: string;
  value: string;
  /** Page with the whole of it. */
  to?: string;
  /** Whether somebody should look. */
  bad?: boolean;
  children?: ReactNode;
}

function Tile({ name, value, to, bad = false, children }: TileProps) {
  const text = (
    <>
      <span className="tile-name">{name}</span>
      <span className="tile-value num">{value}</span>
    </>
  );
  return (
    <li className={bad ? "tile is-bad" : "tile"}>
      {to ? <Link to={to}>{text}</Link> : text}
      <span className="faint">{children}</span>
    </li>
  );
}

function NodeNote({ overview }: { overview: Overview }) {
  const others = overview.nodes.filter(
    (nodes) => nodes.health !== NodeHealth.HEALTHY && nodes.count > 0n,
  );
  return (
    <span className="tile-links">
      {others.map((nodes) => (
        <Link key={nodes.health} to={`/nodes?health=${healthName(nodes.health)}`}>
          {count(nodes.count)} {healthName(nodes.health)}
        </Link>
      ))}
    </span>
  );
}

function nodesOf(overview: Overview, health: NodeHealth): bigint {
  return overview.nodes.find((nodes) => nodes.health === health)?.count ?? 0n;
}

function NewestEvents() {
  const query = useNewestEvents("");
  return (
    <section className="panel" aria-label="Newest events">
      <h2>
        Newest events{" "}
        <Link className="head-link" to="/events">
          All events
        </Link>
      </h2>
      <QueryView query={query} what="The events could not be read">
        {({ events }) =>
          events.length === 0 ? (
            <p className="empty">No event is recorded yet.</p>
          ) : (
            <EventTable events={events} />
          )
        }
      </QueryView>
    </section>
  );
}
