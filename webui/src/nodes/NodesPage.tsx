import { Link, useSearchParams } from "react-router";
import { assetsPath } from "../assets/search";
import { Age } from "../format/Time";
import { healthName, resourceId } from "../format/names";
import { count } from "../format/number";
import { FreshnessNote } from "../freshness/FreshnessNote";
import { QueryView } from "../freshness/QueryView";
import type { Node } from "../gen/assettrack/v1/node_service_pb";
import { CompletenessBadge, ConflictBadge, HealthBadge } from "../shell/Badge";
import { LoadMore } from "../shell/LoadMore";
import { Page } from "../shell/Page";
import { backlog } from "./backlog";
import { NODES_EVERY_MS, useNodes } from "./queries";

export default function NodesPage() {
  const query = useNodes();
  const [params, setParams] = useSearchParams();
  const health = params.get("health") ?? "";
  return (
    <Page title="Nodes" aside={<FreshnessNote query={query} everyMs={NODES_EVERY_MS} />}>
      <QueryView query={query} what="The nodes could not be read">
        {({ pages }) => {
          const nodes = pages.flatMap((page) => page.nodes);
          const shown = nodes.filter((node) => health === "" || healthName(node.health) === health);
          if (nodes.length === 0) {
            return <p className="empty">No agent has reported yet.</p>;
          }
          return (
            <>
              {health && (
                <p className="lead">
                  Only nodes whose health is <strong>{health}</strong>, of those loaded.{" "}
                  <button type="button" className="link" onClick={() => setParams({})}>
                    Show all
                  </button>
                </p>
              )}
              <NodeTable nodes={shown} />
              <LoadMore query={query} shown={`${count(shown.length)} shown`} />
            </>
          );
        }}
      </QueryView>
    </Page>
  );
}

function NodeTable({ nodes }: { nodes: readonly Node[] }) {
  return (
    <div className="table-frame">
      <table>
        <caption className="visually-hidden">Nodes</caption>
        <thead>
          <tr>
            <th scope="col">Node</th>
            <th scope="col">Health</th>
            <th scope="col" title="Whether all that the agent knows is recorded, and as of when">
              Complete
            </th>
            <th scope="col">Last heartbeat</th>
            <th scope="col">Cluster</th>
            <th scope="col">Agent</th>
            <th scope="col" className="right">
              Active assets
            </th>
            <th scope="col" className="right" title="Batches that wait on the node for the broker">
              Outbox
            </th>
            <th scope="col" className="right" title="Batches made by the agent, not received here">
              Missing
            </th>
            <th scope="col">First heard</th>
          </tr>
        </thead>
        <tbody>
          {nodes.map((node) => (
            <tr key={node.name}>
              <th scope="row" className="name">
                <Link to={`/${node.name}`}>{node.displayName || resourceId(node.name)}</Link>
              </th>
              <td>
                <HealthBadge health={node.health} /> {node.identityConflict && <ConflictBadge />}
              </td>
              <td>
                <CompletenessBadge completeness={node.completeness} />{" "}
                <span className="faint">
                  <Age at={node.completeTime} absent="" />
                </span>
              </td>
              <td>
                <Age at={node.lastHeartbeatTime} />
              </td>
              <td>{node.cluster}</td>
              <td className="num">{node.agentVersion || "–"}</td>
              <td className="right num">
                <Link to={assetsPath({ node: resourceId(node.name) })}>
                  {count(node.activeAssets)}
                </Link>
              </td>
              <td className="right num">{count(node.outboxBatches)}</td>
              <td className="right num">{count(backlog(node))}</td>
              <td>
                <Age at={node.createTime} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
