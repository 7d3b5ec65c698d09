/** What the query cache knows about one view; times in milliseconds, 0 for never. */
export interface Reading {
  /** When the newest data arrived. */
  dataUpdatedAt: number;
  /** When a call last failed. */
  errorUpdatedAt: number;
  /** Whether the newest call failed. */
  isError: boolean;
  /** Whether that call was only for more of a list; what is shown stays true. */
  isFetchNextPageError?: boolean;
}

/** Whether the newest refresh failed. */
export function refreshFailed(reading: Reading): boolean {
  return reading.isError && reading.isFetchNextPageError !== true;
}

/**
 * How far a view can be trusted:
 * - `empty`: nothing has arrived yet, or the first call failed;
 * - `fresh`: the newest refresh succeeded, and in time;
 * - `failed`: it did not; what is shown is from before;
 * - `overdue`: no answer for three intervals, such as after the device slept.
 */
export type Freshness =
  | { state: "empty"; failed: boolean }
  | { state: "fresh"; since: number }
  | { state: "failed"; since: number; failedAt: number }
  | { state: "overdue"; since: number };

/** Judges a view that refreshes each `everyMs`; 0 for one that does not by itself. */
export function freshnessOf(reading: Reading, everyMs: number, now: number): Freshness {
  const since = reading.dataUpdatedAt;
  if (since === 0) {
    return { state: "empty", failed: reading.isError };
  }
  if (refreshFailed(reading)) {
    return { state: "failed", since, failedAt: reading.errorUpdatedAt };
  }
  if (everyMs > 0 && now - since > 3 * everyMs + 1_000) {
    return { state: "overdue", since };
  }
  return { state: "fresh", since };
}
