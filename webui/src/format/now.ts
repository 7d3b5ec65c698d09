import { createContext, useCallback, useContext, useSyncExternalStore } from "react";
import { ServerClock } from "./serverClock";

/** One clock for all pages; replaced in tests. */
export const ClockContext = createContext<ServerClock>(new ServerClock());

function everySecond(onTick: () => void): () => void {
  const timer = setInterval(onTick, 1_000);
  return () => clearInterval(timer);
}

/**
 * Milliseconds since the epoch, by the server's clock, to the second; renders
 * again each second.
 */
export function useServerNow(): number {
  const clock = useContext(ClockContext);
  const read = useCallback(
    () => Math.floor((Date.now() + clock.offsetMs) / 1_000) * 1_000,
    [clock],
  );
  return useSyncExternalStore(everySecond, read);
}

/** The same by this device's clock, for times that this page took itself. */
export function useDeviceNow(): number {
  return useSyncExternalStore(everySecond, () => Math.floor(Date.now() / 1_000) * 1_000);
}
