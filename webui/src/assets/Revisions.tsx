import { Moment } from "../format/Time";
import { count } from "../format/number";
import { QueryView } from "../freshness/QueryView";
import type { Asset } from "../gen/assettrack/v1/asset_pb";
import type { AssetRevision } from "../gen/assettrack/v1/asset_service_pb";
import { EventTypeBadge } from "../shell/Badge";
import { LoadMore } from "../shell/LoadMore";
import { useRevisions } from "./queries";
import { type Change, diffRevisions } from "./revisionDiff";

/** A diff longer than this is folded. */
const SHORT_DIFF = 8;

/** The history of an asset, newest first, each step with what it changed. */
export function Revisions({ asset }: { asset: Asset }) {
  const query = useRevisions(asset.name, asset.revision);
  return (
    <section className="panel" aria-label="Revisions">
      <h2>
        Revisions <span className="faint">{count(asset.revision)}</span>
      </h2>
      <QueryView query={query} what="The revisions could not be read">
        {({ pages }) => {
          const revisions = pages.flatMap((page) => page.revisions);
          return (
            <>
              <ol className="timeline">
                {revisions.map((revision, at) => (
                  <Step key={revision.name} revision={revision} before={revisions[at + 1]} />
                ))}
              </ol>
              <LoadMore query={query} shown={`${count(revisions.length)} shown`} />
            </>
          );
        }}
      </QueryView>
    </section>
  );
}

interface StepProps {
  revision: AssetRevision;
  /** The revision before it; undefined for the first, or if not loaded yet. */
  before: AssetRevision | undefined;
}

function Step({ revision, before }: StepProps) {
  const { event, asset } = revision;
  return (
    <li id={`revision-${revision.revision}`}>
      <div className="step-head">
        <strong className="num">{revision.revision.toString()}</strong>
        {event && <EventTypeBadge type={event.type} />}
        <Moment at={revision.recordTime} />
        {event && <span className="faint">by {event.actor}</span>}
        {event?.observeTime && (
          <span className="faint">
            seen <Moment at={event.observeTime} />
          </span>
        )}
      </div>
      {asset && before?.asset && <Diff changes={diffRevisions(before.asset, asset)} />}
      {!before && revision.revision > 1n && (
        <p className="faint">
          Changed {event?.changedFields.join(", ") || "something"}; load more to compare.
        </p>
      )}
    </li>
  );
}

function Diff({ changes }: { changes: readonly Change[] }) {
  if (changes.length === 0) {
    return <p className="faint">No field differs from the revision before.</p>;
  }
  const rows = (
    <table className="diff">
      <thead className="visually-hidden">
        <tr>
          <th scope="col">Field</th>
          <th scope="col">Change</th>
        </tr>
      </thead>
      <tbody>
        {changes.map((change) => (
          <tr key={change.path}>
            <th scope="row">
              <code>{change.path}</code>
            </th>
            <td>
              <Values change={change} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
  if (changes.length <= SHORT_DIFF) {
    return rows;
  }
  return (
    <details>
      <summary>{changes.length} fields</summary>
      {rows}
    </details>
  );
}

function Values({ change }: { change: Change }) {
  return (
    <>
      {change.before.map((text) => (
        <del key={text}>{text}</del>
      ))}
      {change.before.length === 0 && !change.list && <span className="faint">unset</span>}
      {!change.list && <span aria-hidden="true"> → </span>}
      {change.after.map((text) => (
        <ins key={text}>{text}</ins>
      ))}
      {change.after.length === 0 && !change.list && <span className="faint">unset</span>}
    </>
  );
}
