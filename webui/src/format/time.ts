import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampDate } from "@bufbuild/protobuf/wkt";

const LOCAL = new Intl.DateTimeFormat(undefined, {
  year: "numeric",
  month: "2-digit",
  day: "2-digit",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});

const LOCAL_TIME = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});

/** Such as `2026-11-23 17:05:09`, in the time zone of the device. */
export function localDateTime(date: Date): string {
  const part = new Map(LOCAL.formatToParts(date).map(({ type, value }) => [type, value]));
  const day = `${part.get("year")}-${part.get("month")}-${part.get("day")}`;
  return `${day} ${part.get("hour")}:${part.get("minute")}:${part.get("second")}`;
}

/** Such as `17:05:09`, in the time zone of the device. */
export function localTime(date: Date): string {
  return LOCAL_TIME.format(date);
}

/** Such as `2026-11-23 16:05:09.123 UTC`. */
export function utcDateTime(date: Date): string {
  return date.toISOString().replace("T", " ").replace("Z", " UTC");
}

/** Milliseconds since the epoch; undefined for an absent time. */
export function millis(time: Timestamp | undefined): number | undefined {
  return time && timestampDate(time).getTime();
}

const UNITS: readonly [string, number][] = [
  ["d", 86_400],
  ["h", 3_600],
  ["min", 60],
  ["s", 1],
];

/** The largest unit that fits, such as `12 s`, `3 min`, `5 h`, `40 d`. */
export function span(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1_000));
  for (const [unit, length] of UNITS) {
    if (seconds >= length) {
      return `${Math.floor(seconds / length)} ${unit}`;
    }
  }
  return "0 s";
}

/** Such as `12 s ago`; `just now` within 2 s, also for times a little ahead. */
export function age(then: number, now: number): string {
  return now - then < 2_000 ? "just now" : `${span(now - then)} ago`;
}
