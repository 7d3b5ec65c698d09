import { expect, test } from "vitest";
import { freshnessOf } from "./freshness";

const NOW = 1_000_000;

test.each([
  ["nothing yet", { dataUpdatedAt: 0, errorUpdatedAt: 0, isError: false }, "empty"],
  ["failed before any data", { dataUpdatedAt: 0, errorUpdatedAt: NOW, isError: true }, "empty"],
  ["in time", { dataUpdatedAt: NOW - 9_000, errorUpdatedAt: 0, isError: false }, "fresh"],
  ["failed since", { dataUpdatedAt: NOW - 4_000, errorUpdatedAt: NOW, isError: true }, "failed"],
  [
    "healed since",
    { dataUpdatedAt: NOW - 1_000, errorUpdatedAt: NOW - 4_000, isError: false },
    "fresh",
  ],
  ["no answer for long", { dataUpdatedAt: NOW - 20_000, errorUpdatedAt: 0, isError: false }, "overdue"],
  [
    "only more of a list failed",
    { dataUpdatedAt: NOW, errorUpdatedAt: NOW, isError: true, isFetchNextPageError: true },
    "fresh",
  ],
])("%s", (_what, reading, state) => {
  expect(freshnessOf(reading, 5_000, NOW).state).toBe(state);
});

test("a view that does not refresh by itself is never overdue", () => {
  const reading = { dataUpdatedAt: 1, errorUpdatedAt: 0, isError: false };
  expect(freshnessOf(reading, 0, NOW)).toEqual({ state: "fresh", since: 1 });
});
