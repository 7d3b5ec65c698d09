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
      {collectors.length === 0 && <p className="empty">No collector answers.</p>}
      {collectors.map((stats) => (
        <Collector key={stats.collector} stats={stats} />
      ))}
    </section>
  );
}

function Collector({ stats }: { stats: CollectorStats }) {
  const minute = stats.total?.lastMinute;
  const fiveMinutes = stats.total?.last5Minutes;
  const hour = stats.total?.lastHour;
  return (
    <div className="collector">
      <h3>
        <code>{stats.collector}</code> <CollectorBadge state={stats.state} />{" "}
        <span className="faint">
          started <Age at={stats.startTime} />
        </span>
      </h3>
      {stats.stateReason && <p className="warn-text">{stats.stateReason}</p>}
      <table>
        <thead>
          <tr>
            <th scope="col">
              <span className="visually-hidden">What</span>
            </th>
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
          <tr>
            <th scope="row">Events a second</th>
            <td className="right num">{rate(minute?.events, 60)}</td>
            <td className="right num">{rate(fiveMinutes?.events, 300)}</td>
            <td className="right num">{rate(hour?.events, 3_600)}</td>
          </tr>
          <tr>
            <th scope="row">Messages</th>
            <td className="right num">{count(minute?.messages ?? 0n)}</td>
            <td className="right num">{count(fiveMinutes?.messages ?? 0n)}</td>
            <td className="right num">{count(hour?.messages ?? 0n)}</td>
          </tr>
          <tr>
            <th scope="row">Duplicates</th>
            <td className="right num">{count(minute?.duplicateMessages ?? 0n)}</td>
            <td className="right num">{count(fiveMinutes?.duplicateMessages ?? 0n)}</td>
            <td className="right num">{count(hour?.duplicateMessages ?? 0n)}</td>
          </tr>
          <tr>
            <th scope="row">Dead letters</th>
            <td className="right num">{count(minute?.deadLetters ?? 0n)}</td>
            <td className="right num">{count(fiveMinutes?.deadLetters ?? 0n)}</td>
            <td className="right num">{count(hour?.deadLetters ?? 0n)}</td>
          </tr>
        </tbody>
      </table>
      <p className="collector-foot">
        Lag of the newest batch <strong className="num">{lagText(stats.lag)}</strong> · holds{" "}
        <strong className="num">{count(stats.inFlightMessages)}</strong> uncommitted
      </p>
    </div>
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
