import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RequestInfoSchema,
} from "../gen/google/rpc/error_details_pb";

/** An error of a call, taken apart for people. */
export interface Problem {
  /** Short form of the code, such as `INVALID_ARGUMENT`. */
  code: string;
  message: string;
  /** Machine-readable cause, such as `STALE_ETAG`; empty if there is none. */
  reason: string;
  violations: Violation[];
  /** Names the request in the server's logs; empty if it never got there. */
  requestId: string;
}

/** A field that is at fault. */
export interface Violation {
  field: string;
  description: string;
}

const NO_ANSWER: Problem = {
  code: "UNAVAILABLE",
  message: "The server does not answer.",
  reason: "",
  violations: [],
  requestId: "",
};

/** Reads what an error says, whatever was thrown. */
export function problemOf(error: unknown): Problem {
  const failure = ConnectError.from(error);
  if (failure.cause instanceof TypeError) {
    // What `fetch` throws when there was no answer at all.
    return { ...NO_ANSWER, message: `${NO_ANSWER.message} (${failure.cause.message})` };
  }
  const violations = failure
    .findDetails(BadRequestSchema)
    .flatMap((detail) => detail.fieldViolations)
    .map(({ field, description }) => ({ field, description }));
  return {
    code: codeName(failure.code),
    message: failure.rawMessage || "The server gave no reason.",
    reason: failure.findDetails(ErrorInfoSchema)[0]?.reason ?? "",
    violations,
    requestId:
      failure.findDetails(RequestInfoSchema)[0]?.requestId ||
      failure.metadata.get("x-request-id") ||
      "",
  };
}

/** Whether the call failed with this code. */
export function isCode(error: unknown, code: Code): boolean {
  return error !== null && error !== undefined && ConnectError.from(error).code === code;
}

/** The canonical name, such as `NOT_FOUND`. */
function codeName(code: Code): string {
  if (code === Code.Canceled) {
    return "CANCELLED";
  }
  return (Code[code] ?? "Unknown").replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}
