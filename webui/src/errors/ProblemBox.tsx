import { type Problem, problemOf } from "./problem";

interface Props {
  error: unknown;
  /** What could not be done, such as `The asset could not be read`. */
  what: string;
  onRetry?: (() => void) | undefined;
}

/** A call that failed: what, why, which field, and the ID to look for in the logs. */
export function ProblemBox({ error, what, onRetry }: Props) {
  const problem = problemOf(error);
  return (
    <div className="problem" role="alert">
      <p className="problem-title">{what}</p>
      <ProblemText problem={problem} />
      {onRetry && (
        <button type="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** The text of a problem without a frame. */
export function ProblemText({ problem }: { problem: Problem }) {
  // The message often says all of a violation already.
  const violations = problem.violations.filter(
    ({ field, description }) =>
      !(problem.message.includes(field) && problem.message.includes(description)),
  );
  return (
    <>
      <p>
        {problem.message} <code className="faint">{problem.reason || problem.code}</code>
      </p>
      {violations.length > 0 && (
        <ul className="violations">
          {violations.map(({ field, description }) => (
            <li key={`${field} ${description}`}>
              <code>{field}</code> {description}
            </li>
          ))}
        </ul>
      )}
      {problem.requestId && (
        <p className="faint">
          Request <code>{problem.requestId}</code>
        </p>
      )}
    </>
  );
}
