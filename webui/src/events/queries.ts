import { keepPreviousData, useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useApi } from "../connect";

const EVENTS_PAGE = 100;
const NEWEST = 12;

/** How often the newest events are read again, in milliseconds. */
export const EVENTS_EVERY_MS = 3_000;

/**
 * Events by filter, newest first. Refreshes by itself while `live` and only the
 * newest page is shown: rows must not move under who reads older ones.
 */
export function useEvents(filter: string, live: boolean) {
  const { events } = useApi();
  return useInfiniteQuery({
    queryKey: ["events", "list", filter],
    queryFn: ({ pageParam, signal }) =>
      events.listEvents({ filter, pageSize: EVENTS_PAGE, pageToken: pageParam }, { signal }),
    initialPageParam: "",
    getNextPageParam: (last) => last.nextPageToken || undefined,
    placeholderData: keepPreviousData,
    refetchInterval: ({ state }) =>
      live && (state.data?.pages.length ?? 0) <= 1 ? EVENTS_EVERY_MS : false,
  });
}

/** The few newest events, always current. */
export function useNewestEvents(filter: string) {
  const { events } = useApi();
  return useQuery({
    queryKey: ["events", "newest", filter],
    queryFn: ({ signal }) => events.listEvents({ filter, pageSize: NEWEST }, { signal }),
    refetchInterval: EVENTS_EVERY_MS,
  });
}
