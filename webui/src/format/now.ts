import { createContext, useCallback, useContext, useSyncExternalStore } from "react";
import { ServerClock } from "./serverClock";
import { age } from "./time";

/** One clock for all pages. */
export const ClockContext = createContext<ServerClock>(new ServerClock());

/**
 * How long ago a time of the server was, such as `12 s ago`. Renders again only
 * when the text changes, so a thousand rows cost nothing while they stand.
 */
export function useAge(thenMs: number): string {
  const clock = useContext(ClockContext);
  const read = useCallback(() => age(thenMs, Date.now() + clock.offsetMs), [clock, thenMs]);
  return useSyncExternalStore(clock.subscribe, read);
}

/** Milliseconds since the epoch by this device's clock, to the second. */
export function useDeviceNow(): number {
  const clock = useContext(ClockContext);
  return useSyncExternalStore(clock.subscribe, () => Math.floor(Date.now() / 1_000) * 1_000);
}

/** The day that it is on this device, in the form of `Date.toDateString`. */
export function useToday(): string {
  const clock = useContext(ClockContext);
  return useSyncExternalStore(clock.subscribe, () => new Date().toDateString());
}
