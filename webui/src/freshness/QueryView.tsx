import type { ReactNode } from "react";
import { ProblemBox, ProblemText } from "../errors/ProblemBox";
import { problemOf } from "../errors/problem";
import { localTime } from "../format/time";
import { refreshFailed } from "./freshness";
import type { Refreshable } from "./FreshnessNote";

interface Props<T> {
  query: Refreshable & { data: T | undefined; error: unknown };
  /** What could not be done if it fails, such as `The nodes could not be read`. */
  what: string;
  children: (data: T) => ReactNode;
}

/**
 * The states of a view in one place: loading, failed, and shown. Data that
 * could not be refreshed stays, marked as old, with the reason.
 */
export function QueryView<T>({ query, what, children }: Props<T>) {
  if (query.data === undefined) {
    return query.isError ? (
      <ProblemBox error={query.error} what={what} onRetry={() => query.refetch()} />
    ) : (
      <Loading />
    );
  }
  const failed = refreshFailed(query);
  return (
    <>
      {failed && (
        <div className="problem is-warning" role="alert">
          <p className="problem-title">
            Not refreshed since {localTime(new Date(query.dataUpdatedAt))}. What you see is from
            then.
          </p>
          <ProblemText problem={problemOf(query.error)} />
        </div>
      )}
      <div className={failed ? "is-old" : undefined}>{children(query.data)}</div>
    </>
  );
}

/** Space for what has not arrived yet. */
export function Loading() {
  return (
    <output className="loading">
      <span className="visually-hidden">Loading</span>
      <span className="bone" />
      <span className="bone" />
      <span className="bone" />
    </output>
  );
}
