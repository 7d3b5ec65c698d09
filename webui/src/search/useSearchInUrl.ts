import { useLayoutEffect, useRef } from "react";
import { useSearchParams } from "react-router";

/** Changes a part of the search; `replace` keeps the step out of the history. */
export type ChangeSearch<S> = (part: Partial<S>, how?: { replace: boolean }) => void;

/**
 * The search of a page, all of it kept in the URL. Two changes in a row, such
 * as words that are still being typed and a facet, both count, even if the
 * router has not rendered the first yet.
 */
export function useSearchInUrl<S>(
  read: (params: URLSearchParams) => S,
  write: (search: S) => URLSearchParams,
): [S, ChangeSearch<S>] {
  const [params, setParams] = useSearchParams();
  const newest = useRef(params);
  useLayoutEffect(() => {
    newest.current = params;
  }, [params]);

  const change: ChangeSearch<S> = (part, how) => {
    newest.current = write({ ...read(newest.current), ...part });
    setParams(newest.current, how);
  };
  return [read(params), change];
}
