import { Link } from "react-router";
import { assetsPath } from "../assets/search";
import { resourceId } from "../format/names";
import { count } from "../format/number";
import type { CollectorStats } from "../gen/assettrack/v1/collector_service_pb";
import { KindTag } from "../shell/Badge";
import { busiest } from "./rollup";

const MOST = 6;

/** Where events come from. */
export function TrafficPanel({ collectors }: { collectors: readonly CollectorStats[] }) {
  const rows = busiest(collectors, MOST);
  if (rows.length === 0) {
    return null;
  }
  return (
    <section className="panel" aria-label="Busiest nodes and kinds">
      <h2>
        Busiest <span className="faint">events by node and kind, since the collectors started</span>
      </h2>
      <table>
        <thead>
          <tr>
            <th scope="col">Node</th>
            <th scope="col">Kind</th>
            <th scope="col" className="right">
              1 min
            </th>
            <th scope="col" className="right">
              5 min
            </th>
            <th scope="col" className="right">
              1 h
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={`${row.node} ${row.kind}`}>
              <th scope="row">
                <Link to={`/${row.node}`}>{row.nodeDisplayName || resourceId(row.node)}</Link>
              </th>
              <td>
                <Link to={assetsPath({ node: resourceId(row.node), kind: row.kind })}>
                  <KindTag kind={row.kind} />
                </Link>
              </td>
              <td className="right num">{count(row.eventsLastMinute)}</td>
              <td className="right num">{count(row.eventsLast5Minutes)}</td>
              <td className="right num">{count(row.eventsLastHour)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
