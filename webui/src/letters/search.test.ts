import { expect, test } from "vitest";
import { DeadLetterReason } from "../gen/assettrack/v1/dead_letter_service_pb";
import {
  filterOfSearch,
  jsonOfSearch,
  paramsOfSearch,
  restOfSearch,
  searchOfParams,
  selectionOfSearch,
} from "./search";

test("the URL holds the search, and what it does not know counts as absent", () => {
  const search = { reason: DeadLetterReason.INVALID_NODE, node: "1" };
  const params = paramsOfSearch(search);
  expect(params.toString()).toBe("reason=INVALID_NODE&node=1");
  expect(searchOfParams(params)).toEqual(search);
  const nothing = { reason: undefined, node: "" };
  expect(searchOfParams(new URLSearchParams("reason=UNSPECIFIED"))).toEqual(nothing);
  expect(paramsOfSearch(nothing).toString()).toBe("");
});

test("no filter is all letters, in so many words", () => {
  const nothing = { reason: undefined, node: "" };
  expect(filterOfSearch(nothing)).toEqual({});
  expect(selectionOfSearch(nothing)).toEqual({ all: true });
  const search = { reason: DeadLetterReason.TOO_LARGE, node: "7" };
  const filter = { reasons: [DeadLetterReason.TOO_LARGE], node: "nodes/7" };
  expect(selectionOfSearch(search)).toEqual({ filter });
  expect(restOfSearch(search)).toEqual({
    "filter.reasons": "DEAD_LETTER_REASON_TOO_LARGE",
    "filter.node": "nodes/7",
  });
  expect(jsonOfSearch(search)).toEqual({
    filter: { reasons: ["DEAD_LETTER_REASON_TOO_LARGE"], node: "nodes/7" },
  });
  expect(jsonOfSearch(nothing)).toEqual({});
});
