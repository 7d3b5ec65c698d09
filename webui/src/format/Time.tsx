import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { useAge, useToday } from "./now";
import { localDateTime, localTime, utcDateTime } from "./time";

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

/** The same in a list: of today only the time of day. */
export function ShortMoment({ at, absent = "–" }: Props) {
  const today = useToday();
  if (!at) {
    return <span className="faint">{absent}</span>;
  }
  const date = timestampDate(at);
  return (
    <time dateTime={date.toISOString()} title={bothTimes(date)} className="num">
      {date.toDateString() === today ? localTime(date) : localDateTime(date)}
    </time>
  );
}

/** How long ago something was; the moment itself on hover. Ticks. */
export function Age({ at, absent = "never" }: Props) {
  return at ? <AgeOf date={timestampDate(at)} /> : <span className="faint">{absent}</span>;
}

function AgeOf({ date }: { date: Date }) {
  const text = useAge(date.getTime());
  return (
    <time dateTime={date.toISOString()} title={bothTimes(date)} className="num">
      {text}
    </time>
  );
}

function bothTimes(date: Date): string {
  return `${localDateTime(date)} (${utcDateTime(date)})`;
}
