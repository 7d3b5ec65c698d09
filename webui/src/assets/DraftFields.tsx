import { useId, type ReactNode } from "react";
import type { Violation } from "../errors/problem";
import { lifecycleName, LIFECYCLES } from "../format/names";
import { Lifecycle } from "../gen/assettrack/v1/asset_pb";
import { LabelEditor } from "./LabelEditor";
import { type Draft, type DraftField, PATHS } from "./managedDraft";

interface Props {
  draft: Draft;
  onChange: (draft: Draft) => void;
  /** Whether the display name may be written: of assets that people created. */
  named: boolean;
  /** What the server refused, by path. */
  violations: readonly Violation[];
  labelProblem: string | undefined;
}

/** The inputs for what people record. */
export function DraftFields({ draft, onChange, named, violations, labelProblem }: Props) {
  const refusal = (field: DraftField): string | undefined =>
    violations.find((violation) => concerns(violation.field, PATHS[field]))?.description;
  return (
    <>
      {named && (
        <Field label="Display name" refusal={refusal("displayName")}>
          {(id) => (
            <input
              id={id}
              required
              value={draft.displayName}
              onChange={(event) => onChange({ ...draft, displayName: event.target.value })}
            />
          )}
        </Field>
      )}
      <Field label="Owner" refusal={refusal("owner")}>
        {(id) => (
          <input
            id={id}
            placeholder="A person, team or address"
            value={draft.owner}
            onChange={(event) => onChange({ ...draft, owner: event.target.value })}
          />
        )}
      </Field>
      <Field label="Lifecycle" refusal={refusal("lifecycle")}>
        {(id) => (
          <select
            id={id}
            value={draft.lifecycle}
            onChange={(event) => onChange({ ...draft, lifecycle: Number(event.target.value) })}
          >
            <option value={Lifecycle.UNSPECIFIED}>not recorded</option>
            {LIFECYCLES.map((value) => (
              <option key={value} value={value}>
                {lifecycleName(value)}
              </option>
            ))}
          </select>
        )}
      </Field>
      <Field label="Location" refusal={refusal("location")}>
        {(id) => (
          <input
            id={id}
            placeholder="dc1/row 4/rack 12"
            value={draft.location}
            onChange={(event) => onChange({ ...draft, location: event.target.value })}
          />
        )}
      </Field>
      <LabelEditor
        labels={draft.labels}
        onChange={(labels) => onChange({ ...draft, labels })}
        problem={labelProblem ?? refusal("labels")}
      />
      <Field label="Notes" refusal={refusal("notes")}>
        {(id) => (
          <textarea
            id={id}
            rows={4}
            value={draft.notes}
            onChange={(event) => onChange({ ...draft, notes: event.target.value })}
          />
        )}
      </Field>
    </>
  );
}

/** Whether a violation names this path or what is below it, from the request down. */
function concerns(violated: string, path: string): boolean {
  const field = violated.replace(/^asset\./, "");
  return field === path || field.startsWith(`${path}.`) || field.startsWith(`${path}[`);
}

interface FieldProps {
  label: string;
  refusal: string | undefined;
  children: (id: string) => ReactNode;
}

export function Field({ label, refusal, children }: FieldProps) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children(id)}
      {refusal && (
        <p className="field-error" role="alert">
          {refusal}
        </p>
      )}
    </div>
  );
}
