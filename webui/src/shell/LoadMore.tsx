import { problemOf } from "../errors/problem";

interface Props {
  query: {
    hasNextPage: boolean;
    isFetchingNextPage: boolean;
    isFetchNextPageError: boolean;
    error: unknown;
    fetchNextPage: () => unknown;
  };
  /** Such as `200 shown`. */
  shown: string;
}

/** The foot of a list: how much is shown, and the next page. */
export function LoadMore({ query, shown }: Props) {
  return (
    <div className="more">
      <span className="faint">
        {shown}
        {query.hasNextPage ? "; there are more" : "; that is all"}
      </span>
      {query.hasNextPage && (
        <button
          type="button"
          onClick={() => query.fetchNextPage()}
          aria-disabled={query.isFetchingNextPage}
        >
          {query.isFetchingNextPage ? "Loading…" : "Load more"}
        </button>
      )}
      {query.isFetchNextPageError && (
        <span className="field-error" role="alert">
          {problemOf(query.error).message}
        </span>
      )}
    </div>
  );
}
