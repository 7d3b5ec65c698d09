import { Code } from "@connectrpc/connect";
import { useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { ProblemBox } from "../errors/ProblemBox";
import { isCode, problemOf } from "../errors/problem";
import { type Asset } from "../gen/assettrack/v1/asset_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { DraftFields } from "./DraftFields";
import {
  changedFields,
  type Draft,
  draftOf,
  labelProblem,
  managedOf,
  mergeDrafts,
  PATHS,
} from "./managedDraft";
import { assetKey, useUpdateAsset } from "./queries";
import { StaleEdit } from "./StaleEdit";

interface Props {
  /** The asset as it is now; may move on while the form is open. */
  latest: Asset;
  onDone: () => void;
}

/**
 * Edits against the version that the form was opened on, by its etag. When
 * somebody else was faster, both sides are shown before anything is saved.
 */
export function ManagedEditor({ latest, onDone }: Props) {
  const [base, setBase] = useState(latest);
  const [mine, setMine] = useState<Draft>(() => draftOf(latest));
  const update = useUpdateAsset();
  const cache = useQueryClient();

  const stale = latest.etag !== base.etag;
  const changed = changedFields(draftOf(base), mine);
  const labels = labelProblem(mine.labels);

  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    if (stale || labels !== undefined || update.isPending) {
      return;
    }
    if (changed.length === 0) {
      onDone();
      return;
    }
    update.mutate(
      {
        asset: {
          name: base.name,
          etag: base.etag,
          displayName: mine.displayName.trim(),
          managed: managedOf(mine),
        },
        updateMask: { paths: changed.map((field) => PATHS[field]) },
      },
      {
        onSuccess: onDone,
        // Somebody was faster: read what they wrote, to show it.
        onError: (error) => {
          if (isCode(error, Code.Aborted)) {
            void cache.invalidateQueries({ queryKey: assetKey(base.name) });
          }
        },
      },
    );
  };

  const problem = update.isError ? problemOf(update.error) : undefined;
  return (
    <form className="editor" onSubmit={onSubmit}>
      {stale && (
        <StaleEdit
          latest={latest}
          base={draftOf(base)}
          mine={mine}
          merge={mergeDrafts(draftOf(base), mine, draftOf(latest))}
          onContinue={(merged) => {
            setMine(merged);
            setBase(latest);
            update.reset();
          }}
        />
      )}
      <DraftFields
        draft={mine}
        onChange={setMine}
        named={base.kind === AssetKind.CUSTOM}
        violations={problem?.violations ?? []}
        labelProblem={labels}
      />
      {update.isError && <ProblemBox error={update.error} what="Not saved" />}
      <div className="editor-foot">
        <button type="submit" className="primary" disabled={stale} aria-disabled={update.isPending}>
          {update.isPending ? "Saving…" : "Save"}
        </button>
        <button type="button" onClick={onDone}>
          Cancel
        </button>
        <span className="faint">
          {changed.length === 0
            ? "Nothing changed"
            : `Changes ${changed.map((field) => PATHS[field]).join(", ")}`}
        </span>
      </div>
    </form>
  );
}
