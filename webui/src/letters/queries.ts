import type { MessageInitShape } from "@bufbuild/protobuf";
import { keepPreviousData, useInfiniteQuery, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";
import { useApi } from "../connect";
import type { DeadLetterFilterSchema, ReplayDeadLettersResponse } from "../gen/assettrack/v1/dead_letter_service_pb";

const LETTERS_PAGE = 100;

/** How often the list is read again, in milliseconds. */
export const LETTERS_EVERY_MS = 10_000;

export type LetterFilter = MessageInitShape<typeof DeadLetterFilterSchema>;

/** Which letters are meant: exactly one of the three. */
export type Selection =
  | { names: string[] }
  | { filter: LetterFilter }
  | { all: true };

/** Letters by filter, newest first; refreshes while only the newest page is shown. */
export function useLetters(filter: LetterFilter) {
  const { letters } = useApi();
  return useInfiniteQuery({
    queryKey: ["letters", "list", filter],
    queryFn: ({ pageParam, signal }) =>
      letters.listDeadLetters({ filter, pageSize: LETTERS_PAGE, pageToken: pageParam }, { signal }),
    initialPageParam: "",
    getNextPageParam: (last) => last.nextPageToken || undefined,
    placeholderData: keepPreviousData,
    refetchInterval: ({ state }) =>
      (state.data?.pages.length ?? 0) <= 1 ? LETTERS_EVERY_MS : false,
  });
}

export function useLetter(name: string) {
  const { letters } = useApi();
  return useQuery({
    queryKey: ["letters", "one", name],
    queryFn: ({ signal }) => letters.getDeadLetter({ name }, { signal }),
  });
}

/** What letters said is in the inventory now, or lost: everything is read anew. */
function useSettle() {
  const cache = useQueryClient();
  return () => void cache.invalidateQueries();
}

export function useDeleteLetters() {
  const { letters } = useApi();
  const settle = useSettle();
  return useMutation({
    mutationFn: (selection: Selection) => letters.deleteDeadLetters(selection),
    onSettled: settle,
  });
}

/**
 * Replays letters. `progress` is what the server told last; `stop` ends it after
 * the letter at hand, and so does leaving the page.
 */
export function useReplayLetters() {
  const { letters } = useApi();
  const settle = useSettle();
  const [progress, setProgress] = useState<ReplayDeadLettersResponse>();
  const abort = useRef<AbortController>(undefined);
  useEffect(() => () => abort.current?.abort(), []);
  const mutation = useMutation({
    mutationFn: async (selection: Selection) => {
      setProgress(undefined);
      const controller = new AbortController();
      abort.current = controller;
      let done = false;
      try {
        // As long as it takes: what it tells shows that it goes on.
        const told = letters.replayDeadLetters(selection, { signal: controller.signal, timeoutMs: 0 });
        for await (const answer of told) {
          setProgress(answer);
          done = answer.done;
        }
      } catch (error) {
        if (!controller.signal.aborted) {
          throw error;
        }
        return "stopped" as const;
      }
      if (!done) {
        throw new Error("the server ended it before its end; what was replayed stays done");
      }
      return "done" as const;
    },
    onSettled: settle,
  });
  return { mutation, progress, stop: () => abort.current?.abort() };
}
