interface Props {
  /** A filter and what it finds. */
  examples: readonly (readonly [string, string])[];
  onPick: (filter: string) => void;
}

/** What may be typed, by examples that can be tried. */
export function FilterHelp({ examples, onPick }: Props) {
  return (
    <details className="help">
      <summary>Filter syntax</summary>
      <p>
        Words are looked for in names, natural keys and node names. A filter (AIP-160) compares
        fields with <code>= != &lt; &lt;= &gt; &gt;= :</code>, joined by <code>AND</code>,{" "}
        <code>OR</code>, <code>NOT</code> and parentheses; <code>*</code> in a quoted value stands
        for any text. The API takes the same filter.
      </p>
      <ul className="examples">
        {examples.map(([filter, meaning]) => (
          <li key={filter}>
            <button type="button" className="link" onClick={() => onPick(filter)}>
              <code>{filter}</code>
            </button>{" "}
            <span className="faint">{meaning}</span>
          </li>
        ))}
      </ul>
    </details>
  );
}
