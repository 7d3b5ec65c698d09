import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RequestInfoSchema,
} from "../gen/google/rpc/error_details_pb";
import { problemOf } from "./problem";

test("details of a refusal are taken apart", () => {
  const error = new ConnectError("no", Code.InvalidArgument, undefined, [
    { desc: ErrorInfoSchema, value: { reason: "INVALID_FILTER", domain: "assettrack" } },
    {
      desc: BadRequestSchema,
      value: { fieldViolations: [{ field: "filter", description: "no such field" }] },
    },
    { desc: RequestInfoSchema, value: { requestId: "abc" } },
  ]);
  expect(problemOf(error)).toEqual({
    code: "INVALID_ARGUMENT",
    message: "no",
    reason: "INVALID_FILTER",
    violations: [{ field: "filter", description: "no such field" }],
    requestId: "abc",
  });
});

test("no answer at all is told from an answer", () => {
  const error = ConnectError.from(new TypeError("Failed to fetch"));
  expect(problemOf(error)).toMatchObject({
    code: "UNAVAILABLE",
    message: "The server does not answer. (Failed to fetch)",
  });
});
