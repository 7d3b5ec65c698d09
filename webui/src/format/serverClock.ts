/** A difference below this is the rounding of the Date header, not a wrong clock. */
const TOLERANCE_MS = 2_000;

/**
 * Ticks, and knows how far the server's clock is from this device's. Ages are differences
 * between a time that the server recorded and now; with a device clock that is
 * minutes off, every node would look stale, or heard from in the future.
 */
export class ServerClock {
  #offsetMs = 0;
  readonly #onSecond = new Set<() => void>();
  #timer: ReturnType<typeof setInterval> | undefined;

  /** Calls back each second, by one timer for all; answers how to stop it. */
  readonly subscribe = (onSecond: () => void): (() => void) => {
    this.#onSecond.add(onSecond);
    this.#timer ??= setInterval(() => this.#onSecond.forEach((call) => call()), 1_000);
    return () => {
      this.#onSecond.delete(onSecond);
      if (this.#onSecond.size === 0) {
        clearInterval(this.#timer);
        this.#timer = undefined;
      }
    };
  };

  /**
   * Takes in the `Date` header of an answer (whole seconds) to a request that
   * was sent and answered at these times of this device, in milliseconds.
   */
  observe(dateHeader: string | null, sentMs: number, receivedMs: number): void {
    const serverMs = dateHeader === null ? Number.NaN : Date.parse(dateHeader);
    if (Number.isNaN(serverMs)) {
      return;
    }
    // The header is cut to the second: half a second is what it lost on average.
    const offset = serverMs + 500 - (sentMs + receivedMs) / 2;
    this.#offsetMs = Math.abs(offset) <= TOLERANCE_MS ? 0 : Math.round(offset);
  }

  /** Milliseconds to add to this device's time; 0 while they agree. */
  get offsetMs(): number {
    return this.#offsetMs;
  }
}
