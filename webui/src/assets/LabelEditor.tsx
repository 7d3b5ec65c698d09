import type { Label } from "./managedDraft";

interface Props {
  labels: readonly Label[];
  onChange: (labels: Label[]) => void;
  problem: string | undefined;
}

/** Keys and values in rows. */
export function LabelEditor({ labels, onChange, problem }: Props) {
  const change = (row: number, part: Partial<Label>) =>
    onChange(labels.map((label) => (label.row === row ? { ...label, ...part } : label)));
  const add = () => {
    const row = Math.max(-1, ...labels.map((label) => label.row)) + 1;
    onChange([...labels, { row, key: "", value: "" }]);
  };
  return (
    <fieldset className="field labels">
      <legend>Labels</legend>
      {labels.map(({ row, key, value }) => (
        <div key={row} className="label-row">
          <input
            aria-label="Label key"
            placeholder="env"
            value={key}
            onChange={(event) => change(row, { key: event.target.value })}
          />
          <span aria-hidden="true">=</span>
          <input
            aria-label={`Value of label ${key || "without key"}`}
            placeholder="prod"
            value={value}
            onChange={(event) => change(row, { value: event.target.value })}
          />
          <button
            type="button"
            aria-label={`Remove label ${key || "without key"}`}
            onClick={() => onChange(labels.filter((label) => label.row !== row))}
          >
            ×
          </button>
        </div>
      ))}
      <button type="button" onClick={add}>
        Add label
      </button>
      {problem && (
        <p className="field-error" role="alert">
          {problem}
        </p>
      )}
    </fieldset>
  );
}
