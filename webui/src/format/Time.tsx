import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { useServerNow } from "./now";
import { age, localDateTime, utcDateTime } from "./time";

interface Props {
  at: Timestamp | undefined;
  /** What an absent time means. */
  absent?: string;
}

/** A point in time: local, and in UTC on hover. */
export function Moment({ at, absent = "–" }: Props) {
  if (!at) {
    return <span className="faint">{absent}</span>;
  }
  const date = timestampDate(at);
  return (
    <time dateTime={date.toISOString()} title={utcDateTime(date)} className="num">
      {localDateTime(date)}
    </time>
  );
}

/** How long ago something was; the moment itself on hover. Ticks. */
export function Age({ at, absent = "never" }: Props) {
  const now = useServerNow();
  if (!at) {
    return <span className="faint">{absent}</span>;
  }
  const date = timestampDate(at);
  return (
    <time
      dateTime={date.toISOString()}
      title={`${localDateTime(date)} (${utcDateTime(date)})`}
      className="num"
    >
      {age(date.getTime(), now)}
    </time>
  );
}
