import type { Duration } from "@bufbuild/protobuf/wkt";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { count, decimal } from "../format/number";
import { Age } from "../format/Time";
import type { CollectorStats } from "../gen/assettrack/v1/collector_service_pb";
import { CollectorBadge } from "../shell/Badge";
import { queueRows } from "./rollup";

interface Props {
  collectors: readonly CollectorStats[];
}

/** Each collector: what it does, how fast, how far behind. */
export function CollectorPanel({ collectors }: Props) {
  return (
    <section className="panel" aria-label="Collectors">
      <h2>Collectors</h2>
      {collectors.length === 0 ? (
        <p className="empty">No collector answers.</p>
      ) : (
        <div className="table-frame">
          <table>
            <thead>
              <tr>
                <th scope="col">Collector</th>
                <th scope="col">State</th>
                <th scope="col" className="right" title="Events a second over 1 min, 5 min and 1 h">
                  Events/s 1 min
                </th>
                <th scope="col" className="right">
                  5 min
                </th>
                <th scope="col" className="right">
                  1 h
                </th>
                <th scope="col" className="right" title="Committed for the first time, last hour">
                  Messages/h
                </th>
                <th scope="col" className="right" title="Messages committed before, last hour">
                  Duplicates/h
                </th>
                <th scope="col" className="right" title="Messages kept as dead letters, last hour">
                  Dead letters/h
                </th>
                <th scope="col" className="right" title="From publishing to commit, newest batch">
                  Lag
                </th>
                <th scope="col" className="right" title="Messages it holds that are not committed">
                  In flight
                </th>
                <th scope="col">Started</th>
              </tr>
            </thead>
            <tbody>
              {collectors.map((stats) => (
                <CollectorRow key={stats.collector} stats={stats} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function CollectorRow({ stats }: { stats: CollectorStats }) {
  const hour = stats.total?.lastHour;
  return (
    <tr>
      <th scope="row">
        <code>{stats.collector}</code>
      </th>
      <td>
        <CollectorBadge state={stats.state} />{" "}
        {stats.stateReason && <span className="warn-text">{stats.stateReason}</span>}
      </td>
      <td className="right num">{rate(stats.total?.lastMinute?.events, 60)}</td>
      <td className="right num">{rate(stats.total?.last5Minutes?.events, 300)}</td>
      <td className="right num">{rate(hour?.events, 3_600)}</td>
      <td className="right num">{count(hour?.messages ?? 0n)}</td>
      <td className="right num">{count(hour?.duplicateMessages ?? 0n)}</td>
      <td className="right num">{count(hour?.deadLetters ?? 0n)}</td>
      <td className="right num">{lagText(stats.lag)}</td>
      <td className="right num">{count(stats.inFlightMessages)}</td>
      <td>
        <Age at={stats.startTime} />
      </td>
    </tr>
  );
}

/** From publishing to commit, agent's clock against collector's. */
function lagText(lag: Duration | undefined): string {
  if (!lag) {
    return "–";
  }
  const milliseconds = durationMs(lag);
  return milliseconds < 1_000
    ? `${Math.round(milliseconds)} ms`
    : `${decimal(milliseconds / 1_000)} s`;
}

/** Events a second over a window of so many seconds. */
function rate(events: bigint | undefined, seconds: number): string {
  const perSecond = Number(events ?? 0n) / seconds;
  return perSecond > 0 && perSecond < 0.05 ? "< 0.1" : decimal(perSecond);
}

/** The queues of the broker. */
export function QueuePanel({ collectors }: Props) {
  const queues = queueRows(collectors);
  if (queues.length === 0) {
    return null;
  }
  return (
    <section className="panel" aria-label="Queues">
      <h2>Queues</h2>
      <table>
        <thead>
          <tr>
            <th scope="col">Queue</th>
            <th scope="col" className="right">
              Depth
            </th>
            <th scope="col" className="right">
              Consumers
            </th>
            <th scope="col">Measured</th>
          </tr>
        </thead>
        <tbody>
          {queues.map((queue) => (
            <tr key={queue.queue}>
              <th scope="row">
                <code>{queue.queue}</code>
              </th>
              <td className="right num">{count(queue.depth)}</td>
              <td className={queue.consumers === 0 ? "right num warn-text" : "right num"}>
                {queue.consumers}
              </td>
              <td>
                <Age at={queue.measureTime} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
