import { useState } from "react";
import { lifecycleName } from "../format/names";
import { type Asset, Lifecycle } from "../gen/assettrack/v1/asset_pb";
import { ManagedEditor } from "./ManagedEditor";

/** What people recorded about an asset, and the form to change it. */
export function ManagedPanel({ asset }: { asset: Asset }) {
  const [editing, setEditing] = useState(false);
  return (
    <section className="panel" aria-label="Managed fields">
      <h2>
        Managed <span className="faint">by people; agents never touch it</span>
        {!editing && !asset.deleteTime && (
          <button type="button" className="head-button" onClick={() => setEditing(true)}>
            Edit
          </button>
        )}
      </h2>
      {editing ? (
        <ManagedEditor latest={asset} onDone={() => setEditing(false)} />
      ) : (
        <ManagedFacts asset={asset} />
      )}
    </section>
  );
}

function ManagedFacts({ asset }: { asset: Asset }) {
  const { managed } = asset;
  if (!managed) {
    return <p className="empty">Nobody has recorded anything yet.</p>;
  }
  const labels = Object.entries(managed.labels).toSorted(([one], [other]) => (one < other ? -1 : 1));
  return (
    <dl className="facts">
      <div>
        <dt>Owner</dt>
        <dd>{managed.owner || <span className="faint">–</span>}</dd>
      </div>
      <div>
        <dt>Lifecycle</dt>
        <dd>
          {managed.lifecycle === Lifecycle.UNSPECIFIED ? (
            <span className="faint">–</span>
          ) : (
            lifecycleName(managed.lifecycle)
          )}
        </dd>
      </div>
      <div>
        <dt>Location</dt>
        <dd>{managed.location || <span className="faint">–</span>}</dd>
      </div>
      <div>
        <dt>Labels</dt>
        <dd>
          {labels.length === 0 && <span className="faint">–</span>}
          {labels.map(([key, value]) => (
            <code key={key} className="label">
              {key}={value}
            </code>
          ))}
        </dd>
      </div>
      <div className="is-wide">
        <dt>Notes</dt>
        <dd className="notes">{managed.notes || <span className="faint">–</span>}</dd>
      </div>
    </dl>
  );
}
