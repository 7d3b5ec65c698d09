import { Link } from "react-router";
import { ShortMoment } from "../format/Time";
import { resourceId } from "../format/names";
import type { Event } from "../gen/assettrack/v1/event_pb";
import { EventTypeBadge, KindTag } from "../shell/Badge";

interface Props {
  events: readonly Event[];
  /** Whether all are of one node, which then needs no column. */
  onNode?: boolean;
}

/** Events in rows. */
export function EventTable({ events, onNode = false }: Props) {
  return (
    <div className="table-frame">
      <table>
        <caption className="visually-hidden">Events</caption>
        <thead>
          <tr>
            <th scope="col">Recorded</th>
            <th scope="col">Event</th>
            <th scope="col">Asset</th>
            <th scope="col">Kind</th>
            {!onNode && <th scope="col">Node</th>}
            <th scope="col">Changed fields</th>
            <th scope="col">By</th>
          </tr>
        </thead>
        <tbody>
          {events.map((event) => (
            <tr key={event.name}>
              <td>
                <ShortMoment at={event.recordTime} />
              </td>
              <td>
                <EventTypeBadge type={event.type} />
              </td>
              <th scope="row" className="name">
                <Link to={`/${event.asset}`}>{event.displayName || resourceId(event.asset)}</Link>
                {event.revision > 0n ? (
                  <span className="faint num"> r{event.revision.toString()}</span>
                ) : (
                  <span className="faint" title="Too late to change anything; kept for the record">
                    {" "}
                    late
                  </span>
                )}
              </th>
              <td>
                <KindTag kind={event.kind} />
              </td>
              {!onNode && (
                <td>
                  {event.node && (
                    <Link to={`/${event.node}`}>
                      {event.nodeDisplayName || resourceId(event.node)}
                    </Link>
                  )}
                </td>
              )}
              <td className="clip">
                <ChangedFields paths={event.changedFields} />
              </td>
              <td>{event.actor}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** What every path of its kind begins with. */
const PREFIX = /^(details\.\w+|managed)\./;

/** The paths without what they all begin with; the whole ones on hover. */
function ChangedFields({ paths }: { paths: readonly string[] }) {
  if (paths.length === 0) {
    return null;
  }
  return (
    <span title={paths.join("\n")}>
      {paths.map((path) => path.replace(PREFIX, "")).join(", ")}
    </span>
  );
}
