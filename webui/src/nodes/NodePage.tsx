import { Code } from "@connectrpc/connect";
import { Link, useParams } from "react-router";
import { FactList } from "../assets/FactList";
import { useAsset } from "../assets/queries";
import { seenOf } from "../assets/revisionDiff";
import { assetsPath } from "../assets/search";
import { curl, grpcurl } from "../calls/commands";
import { CopyCalls } from "../calls/CopyCalls";
import { isCode } from "../errors/problem";
import { EventTable } from "../events/EventTable";
import { eventsPath } from "../events/search";
import { useNewestEvents } from "../events/queries";
import { grouped } from "../format/kinds";
import { kindName, resourceId } from "../format/names";
import { count } from "../format/number";
import { Age, Moment } from "../format/Time";
import { FreshnessNote } from "../freshness/FreshnessNote";
import { QueryView } from "../freshness/QueryView";
import { AssetState } from "../gen/assettrack/v1/asset_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { type Node, NodeHealth } from "../gen/assettrack/v1/node_service_pb";
import { quote } from "../search/words";
import { ConflictBadge, HealthBadge } from "../shell/Badge";
import { Crumb } from "../shell/Crumb";
import { Page } from "../shell/Page";
import { backlog } from "./backlog";
import { CompletenessPanel } from "./CompletenessPanel";
import { NODES_EVERY_MS, useNode } from "./queries";

export default function NodePage() {
  const { id = "" } = useParams();
  const name = `nodes/${id}`;
  const query = useNode(name);
  const node = query.data;
  if (!node && isCode(query.error, Code.NotFound)) {
    return (
      <Page title="Node not found">
        <p className="empty">
          There is no node <code>{name}</code>. <Link to="/nodes">Go to the nodes</Link>
        </p>
      </Page>
    );
  }
  return (
    <Page
      title={node ? node.displayName || id : "Node"}
      heading={
        node && (
          <>
            <Crumb to="/nodes">Nodes</Crumb>
            {node.displayName || id} <HealthBadge health={node.health} />{" "}
            {node.identityConflict && <ConflictBadge />}
          </>
        )
      }
      aside={<FreshnessNote query={query} everyMs={NODES_EVERY_MS} />}
    >
      <QueryView query={query} what="The node could not be read">
        {(shown) => <Content node={shown} />}
      </QueryView>
    </Page>
  );
}

function Content({ node }: { node: Node }) {
  const { origin } = window.location;
  return (
    <>
      <HealthNote node={node} />
      {node.identityConflict && <ConflictNote />}
      <div className="columns">
        <div>
          <Machine node={node} />
          <NewestEvents node={node} />
        </div>
        <div>
          <Agent node={node} />
          <CompletenessPanel node={node} />
          <KindLinks node={node} />
          <CopyCalls
            commands={[
              curl(origin, `/v1/${node.name}`),
              grpcurl(origin, "NodeService/GetNode", { name: node.name }),
            ]}
          />
        </div>
      </div>
    </>
  );
}

function HealthNote({ node }: { node: Node }) {
  if (node.health === NodeHealth.STALE) {
    return (
      <p className="problem is-warning">
        This node is not heard: its last heartbeat came <Age at={node.lastHeartbeatTime} />, and it
        should send one each {node.heartbeatIntervalSeconds} s. What is shown of it is what it last
        said.
      </p>
    );
  }
  if (node.health === NodeHealth.RETIRED) {
    return (
      <p className="problem is-warning">
        This node was retired <Age at={node.retireTime} />: it is not expected to return, and its
        assets are REMOVED. If its agent speaks again, it is a node like any other.
      </p>
    );
  }
  if (node.health === NodeHealth.UNKNOWN) {
    return (
      <p className="problem is-warning">
        Whether this node lives cannot be told: no collector delivers heartbeats at the moment.
      </p>
    );
  }
  return null;
}

function ConflictNote() {
  return (
    <p className="problem" role="alert">
      Two agents speak under the identity of this node, as after a machine was cloned with its
      machine ID. What is recorded here mixes both. Give one of them another machine ID, or set its{" "}
      <code>--machine-id</code>.
    </p>
  );
}

function Machine({ node }: { node: Node }) {
  const query = useAsset(node.asset);
  return (
    <section className="panel">
      <h2>
        Machine{" "}
        <Link className="head-link" to={`/${node.asset}`}>
          Its asset, with history and managed fields
        </Link>
      </h2>
      {isCode(query.error, Code.NotFound) ? (
        <p className="empty">The agent has not described the machine yet.</p>
      ) : (
        <QueryView query={query} what="The machine could not be read">
          {(asset) => <FactList facts={seenOf(asset.details)?.facts ?? []} setOnly />}
        </QueryView>
      )}
    </section>
  );
}

function Agent({ node }: { node: Node }) {
  const missing = backlog(node);
  return (
    <section className="panel">
      <h2>Agent</h2>
      <dl className="facts">
        <div>
          <dt>Last heartbeat</dt>
          <dd>
            <Age at={node.lastHeartbeatTime} />
            {node.heartbeatIntervalSeconds > 0 && (
              <span className="faint"> · each {node.heartbeatIntervalSeconds} s</span>
            )}
          </dd>
        </div>
        <div>
          <dt>Version</dt>
          <dd>{node.agentVersion || "–"}</dd>
        </div>
        <div>
          <dt>Cluster</dt>
          <dd>{node.cluster}</dd>
        </div>
        <div>
          <dt>Outbox</dt>
          <dd>{count(node.outboxBatches)} batches wait for the broker</dd>
        </div>
        <div>
          <dt>Received</dt>
          <dd>
            <span className="num">
              {count(node.receivedSequence)} of {count(node.lastSequence)}
            </span>{" "}
            {missing > 0n && <span className="warn-text">{count(missing)} missing</span>}
          </dd>
        </div>
        <div>
          <dt>Stream</dt>
          <dd>
            <code>{node.stream || "–"}</code>
          </dd>
        </div>
        <div>
          <dt>First heard</dt>
          <dd>
            <Moment at={node.createTime} />
          </dd>
        </div>
        <div>
          <dt>Name</dt>
          <dd>
            <code>{node.name}</code>
          </dd>
        </div>
      </dl>
    </section>
  );
}

function KindLinks({ node }: { node: Node }) {
  const id = resourceId(node.name);
  // The machine itself has its own panel.
  const counts = new Map(
    node.activeKinds
      .filter(({ kind }) => kind !== AssetKind.NODE)
      .map(({ kind, count: assets }) => [kind, assets]),
  );
  return (
    <section className="panel" aria-label="Assets">
      <h2>
        Assets{" "}
        <Link className="head-link" to={assetsPath({ node: id, state: AssetState.ACTIVE })}>
          {count(node.activeAssets)} active
        </Link>
      </h2>
      {counts.size === 0 ? (
        <p className="empty">The agent has reported none yet.</p>
      ) : (
        <dl className="facts kind-counts">
          {grouped([...counts.keys()]).map(({ label, kinds }) => (
            <div key={label}>
              <dt>{label}</dt>
              <dd>
                <ul className="kind-links">
                  {kinds.map((kind) => (
                    <li key={kind}>
                      <Link
                        className="kind"
                        to={assetsPath({ node: id, kind, state: AssetState.ACTIVE })}
                      >
                        {kindName(kind)}
                      </Link>{" "}
                      <span className="num faint">{count(counts.get(kind) ?? 0n)}</span>
                    </li>
                  ))}
                </ul>
              </dd>
            </div>
          ))}
        </dl>
      )}
    </section>
  );
}

function NewestEvents({ node }: { node: Node }) {
  const filter = `node=${quote(node.name)}`;
  const query = useNewestEvents(filter);
  return (
    <section className="panel">
      <h2>
        Newest events{" "}
        <Link className="head-link" to={eventsPath({ text: filter })}>
          All of this node
        </Link>
      </h2>
      <QueryView query={query} what="The events could not be read">
        {({ events }) =>
          events.length === 0 ? (
            <p className="empty">No event of this node is recorded yet.</p>
          ) : (
            <EventTable events={events} onNode />
          )
        }
      </QueryView>
    </section>
  );
}
