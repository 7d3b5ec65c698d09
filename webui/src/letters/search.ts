import { DeadLetterReason } from "../gen/assettrack/v1/dead_letter_service_pb";
import { REASONS, reasonName } from "../format/names";
import type { LetterFilter, Selection } from "./queries";

/** What the list shows; all of it stands in the URL. */
export interface LetterSearch {
  reason: DeadLetterReason | undefined;
  /** UUID of a node; empty for all. */
  node: string;
}

/** Reads the URL; what it does not know counts as absent. */
export function searchOfParams(params: URLSearchParams): LetterSearch {
  const reason = params.get("reason");
  return {
    reason: REASONS.find((one) => reasonName(one) === reason),
    node: params.get("node") ?? "",
  };
}

/** Writes the URL; absent parts are left out. */
export function paramsOfSearch(search: Partial<LetterSearch>): URLSearchParams {
  const params = new URLSearchParams();
  if (search.reason) {
    params.set("reason", reasonName(search.reason));
  }
  if (search.node) {
    params.set("node", search.node);
  }
  return params;
}

/** The filter that the server gets. */
export function filterOfSearch({ reason, node }: LetterSearch): LetterFilter {
  return {
    ...(reason ? { reasons: [reason] } : {}),
    ...(node ? { node: `nodes/${node}` } : {}),
  };
}

/** What is replayed or deleted; an empty filter means nothing to the server. */
export function selectionOfSearch(search: LetterSearch): Selection {
  return search.reason || search.node ? { filter: filterOfSearch(search) } : { all: true };
}

const contractName = (reason: DeadLetterReason): string => `DEAD_LETTER_REASON_${reasonName(reason)}`;

/** The filter as query parameters of REST. */
export function restOfSearch({ reason, node }: LetterSearch): Record<string, string> {
  return {
    "filter.reasons": reason ? contractName(reason) : "",
    "filter.node": node && `nodes/${node}`,
  };
}

/** The request as ProtoJSON. */
export function jsonOfSearch({ reason, node }: LetterSearch): Record<string, unknown> {
  if (!reason && !node) {
    return {};
  }
  return {
    filter: {
      ...(reason ? { reasons: [contractName(reason)] } : {}),
      ...(node ? { node: `nodes/${node}` } : {}),
    },
  };
}
