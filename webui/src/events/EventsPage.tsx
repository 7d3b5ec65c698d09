import { Code } from "@connectrpc/connect";
import { useState } from "react";
import { curl, grpcurl } from "../calls/commands";
import { CopyCalls } from "../calls/CopyCalls";
import { isCode, problemOf } from "../errors/problem";
import { KIND_GROUPS } from "../format/kinds";
import { EVENT_TYPES, eventTypeName, eventTypeOf, kindName, kindOf } from "../format/names";
import { count } from "../format/number";
import { FreshnessNote } from "../freshness/FreshnessNote";
import { QueryView } from "../freshness/QueryView";
import { FilterHelp } from "../search/FilterHelp";
import { SearchBox } from "../search/SearchBox";
import { useSearchInUrl } from "../search/useSearchInUrl";
import { LoadMore } from "../shell/LoadMore";
import { Page } from "../shell/Page";
import { EventTable } from "./EventTable";
import { EVENTS_EVERY_MS, useEvents } from "./queries";
import { filterOfSearch, paramsOfSearch, searchOfParams } from "./search";

const EXAMPLES = [
  ["type=REMOVED AND kind=PACKAGE", "packages that went"],
  ['record_time>"2026-11-01T00:00:00Z" AND display_name="lib*"', "since then, by name"],
  ["actor!=agent", "what people did"],
] as const;

export default function EventsPage() {
  const [search, change] = useSearchInUrl(searchOfParams, paramsOfSearch);
  const [live, setLive] = useState(true);
  const filter = filterOfSearch(search);
  const query = useEvents(filter, live);
  const pages = query.data?.pages ?? [];

  const refused = isCode(query.error, Code.InvalidArgument) ? problemOf(query.error) : undefined;
  const paused = pausedBecause(live, pages.length);
  return (
    <Page
      title="Events"
      aside={
        <>
          <FreshnessNote query={query} everyMs={EVENTS_EVERY_MS} paused={paused} />
          <button type="button" aria-pressed={!live} onClick={() => setLive(!live)}>
            {live ? "Pause" : "Go on"}
          </button>
        </>
      }
    >
      <SearchBox
        label="Search events by words or filter"
        placeholder="Words, or a filter such as type=REMOVED AND kind=PACKAGE"
        value={search.text}
        onSearch={(text, how) => change({ text }, how)}
        refused={refused}
      />
      <div className="facets">
        <label>
          Event{" "}
          <select
            value={search.type ? eventTypeName(search.type) : ""}
            onChange={(event) => change({ type: eventTypeOf(event.target.value) })}
          >
            <option value="">all</option>
            {EVENT_TYPES.map((type) => (
              <option key={type}>{eventTypeName(type)}</option>
            ))}
          </select>
        </label>
        <label>
          Kind{" "}
          <select
            value={search.kind ? kindName(search.kind) : ""}
            onChange={(event) => change({ kind: kindOf(event.target.value) })}
          >
            <option value="">all</option>
            {KIND_GROUPS.map(({ label, kinds }) => (
              <optgroup key={label} label={label}>
                {kinds.map((kind) => (
                  <option key={kind}>{kindName(kind)}</option>
                ))}
              </optgroup>
            ))}
          </select>
        </label>
      </div>
      <div className="helps">
        <FilterHelp examples={EXAMPLES} onPick={(text) => change({ text })} />
        <CopyCalls
          commands={[
            curl(window.location.origin, "/v1/events", { filter }),
            grpcurl(window.location.origin, "EventService/ListEvents", { filter }),
          ]}
        />
      </div>
      {!refused && (
        <QueryView query={query} what="The events could not be read">
          {() => {
            const events = pages.flatMap((page) => page.events);
            if (events.length === 0) {
              return (
                <p className="empty">
                  {filter ? "No event matches." : "No event is recorded yet."}
                </p>
              );
            }
            return (
              <div className={query.isPlaceholderData ? "is-old" : undefined}>
                <EventTable events={events} />
                <LoadMore query={query} shown={`${count(events.length)} shown`} />
              </div>
            );
          }}
        </QueryView>
      )}
    </Page>
  );
}

/** Why new events do not show up by themselves; undefined if they do. */
function pausedBecause(live: boolean, pages: number): string | undefined {
  if (!live) {
    return "paused";
  }
  return pages > 1 ? "paused while older events are shown" : undefined;
}
