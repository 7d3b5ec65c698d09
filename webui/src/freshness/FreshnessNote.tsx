import { useDeviceNow } from "../format/now";
import { age, localTime, utcDateTime } from "../format/time";
import { type Freshness, freshnessOf, type Reading } from "./freshness";

/** What this needs of a query. */
export interface Refreshable extends Reading {
  isFetching: boolean;
  refetch: () => unknown;
}

interface Props {
  query: Refreshable;
  /** Interval of its refresh in milliseconds; 0 for none. */
  everyMs: number;
  /** Why it does not refresh by itself, such as `paused`. */
  paused?: string | undefined;
  /** Whether the newest answer lacks a part. */
  partial?: boolean;
}

/** Says how old a view is, and lets it be refreshed. */
export function FreshnessNote({ query, everyMs, paused, partial = false }: Props) {
  const now = useDeviceNow();
  const freshness = freshnessOf(query, paused ? 0 : everyMs, now);
  const look = freshness.state === "fresh" && partial ? "partial" : freshness.state;
  return (
    <div className="freshness">
      <span className={`freshness-state is-${look}`}>
        {textOf(freshness, now)}
        {look === "partial" && ", in part"}
        {paused && freshness.state === "fresh" && <span className="faint"> · {paused}</span>}
      </span>
      <button type="button" onClick={() => query.refetch()} aria-disabled={query.isFetching}>
        Refresh
      </button>
    </div>
  );
}

function textOf(freshness: Freshness, now: number) {
  if (freshness.state === "empty") {
    return freshness.failed ? "No data" : "Waiting for the first answer";
  }
  const since = (
    <time
      dateTime={new Date(freshness.since).toISOString()}
      title={utcDateTime(new Date(freshness.since))}
    >
      {freshness.state === "fresh"
        ? age(freshness.since, now)
        : localTime(new Date(freshness.since))}
    </time>
  );
  switch (freshness.state) {
    case "fresh":
      return <>Updated {since}</>;
    case "overdue":
      return <>No answer since {since}</>;
    case "failed":
      return <>Refresh failed; old data of {since}</>;
  }
}
