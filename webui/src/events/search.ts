import type { AssetKind } from "../gen/assettrack/v1/kind_pb";
import type { EventType } from "../gen/assettrack/v1/event_pb";
import { eventTypeName, eventTypeOf, kindName, kindOf } from "../format/names";
import { filterOfText, narrowed } from "../search/words";

/** What the event list shows; all of it stands in the URL. */
export interface EventSearch {
  /** As typed: words or a filter. */
  text: string;
  type: EventType | undefined;
  kind: AssetKind | undefined;
}

/** Reads the URL; what it does not know counts as absent. */
export function searchOfParams(params: URLSearchParams): EventSearch {
  return {
    text: params.get("q") ?? "",
    type: eventTypeOf(params.get("type")),
    kind: kindOf(params.get("kind")),
  };
}

/** Writes the URL; absent parts are left out. */
export function paramsOfSearch(search: Partial<EventSearch>): URLSearchParams {
  const params = new URLSearchParams();
  if (search.text) {
    params.set("q", search.text);
  }
  if (search.type) {
    params.set("type", eventTypeName(search.type));
  }
  if (search.kind) {
    params.set("kind", kindName(search.kind));
  }
  return params;
}

/** Where this search is shown. */
export function eventsPath(search: Partial<EventSearch>): string {
  const query = paramsOfSearch(search).toString();
  return query ? `/events?${query}` : "/events";
}

/** The one filter that the server gets. */
export function filterOfSearch(search: EventSearch): string {
  return narrowed(filterOfText(search.text), [
    search.type ? `type=${eventTypeName(search.type)}` : "",
    search.kind ? `kind=${kindName(search.kind)}` : "",
  ]);
}
