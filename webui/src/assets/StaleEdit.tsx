import { useState } from "react";
import type { Asset } from "../gen/assettrack/v1/asset_pb";
import {
  type Draft,
  draftOf,
  type DraftField,
  type Merge,
  PATHS,
  takeFields,
  textOfField,
} from "./managedDraft";

interface Props {
  latest: Asset;
  base: Draft;
  mine: Draft;
  merge: Merge;
  /** Goes on editing the latest version with this draft. */
  onContinue: (draft: Draft) => void;
}

/** Somebody else saved first: who has what, and a choice for each clash. */
export function StaleEdit({ latest, base, mine, merge, onContinue }: Props) {
  const theirs = draftOf(latest);
  const [chosen, setChosen] = useState<Partial<Record<DraftField, "mine" | "theirs">>>({});
  const open = merge.conflicts.filter((field) => chosen[field] === undefined);
  const onClick = () => {
    const fromThem = merge.conflicts.filter((field) => chosen[field] === "theirs");
    onContinue(takeFields(merge.merged, theirs, fromThem));
  };
  return (
    <div className="problem is-warning" role="alert">
      <p className="problem-title">
        Somebody else changed this record. Nothing of yours is saved yet.
      </p>
      {merge.taken.length > 0 && (
        <p>
          They alone changed, and it will be kept:{" "}
          {merge.taken.map((field) => (
            <span key={field} className="theirs">
              <code>{PATHS[field]}</code> to <Text text={textOfField(theirs, field)} />
            </span>
          ))}
        </p>
      )}
      {merge.conflicts.map((field) => (
        <fieldset key={field} className="conflict">
          <legend>
            Both changed <code>{PATHS[field]}</code>, which was{" "}
            <Text text={textOfField(base, field)} />
          </legend>
          {(["mine", "theirs"] as const).map((side) => (
            <label key={side} className="check">
              <input
                type="radio"
                name={`conflict-${field}`}
                checked={chosen[field] === side}
                onChange={() => setChosen({ ...chosen, [field]: side })}
              />
              {side === "mine" ? "Yours" : "Theirs"}:{" "}
              <Text text={textOfField(side === "mine" ? mine : theirs, field)} />
            </label>
          ))}
        </fieldset>
      ))}
      <button type="button" disabled={open.length > 0} onClick={onClick}>
        Continue on their version
      </button>
    </div>
  );
}

function Text({ text }: { text: string }) {
  return text === "" ? <em>empty</em> : <strong>{text}</strong>;
}
