import { type FormEvent, useEffect, useId, useRef, useState } from "react";
import type { Problem } from "../errors/problem";
import { useSlashKey } from "./useSlashKey";
import { isFilter } from "./words";

/** Words are looked for this long after the last key, in milliseconds. */
const PAUSE_MS = 250;

interface Props {
  label: string;
  placeholder: string;
  /** What the URL says. */
  value: string;
  /** `replace`: typed on, so that the history keeps no half words. */
  onSearch: (text: string, how: { replace: boolean }) => void;
  /** Why the server refused what was searched for. */
  refused: Problem | undefined;
}

/**
 * Takes words, looked for while they are typed, or an AIP-160 filter, sent on
 * Enter, since half a filter is an error.
 */
export function SearchBox({ label, placeholder, value, onSearch, refused }: Props) {
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  const [text, setText] = useState(value);
  // The value that this box itself asked for: its return must not overwrite
  // what has been typed since.
  const [asked, setAsked] = useState(value);
  const [known, setKnown] = useState(value);
  if (value !== known) {
    setKnown(value);
    if (value !== asked) {
      setText(value);
      setAsked(value);
    }
  }

  const search = (wanted: string, replace: boolean) => {
    setAsked(wanted);
    if (wanted !== value) {
      onSearch(wanted, { replace });
    }
  };

  useEffect(() => {
    const wanted = text.trim();
    if (wanted === asked || isFilter(wanted)) {
      return undefined;
    }
    const timer = setTimeout(() => search(wanted, true), PAUSE_MS);
    return () => clearTimeout(timer);
  });

  useSlashKey(input);

  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    search(text.trim(), false);
  };

  const pending = isFilter(text.trim()) && text.trim() !== value;
  return (
    <search>
      <form className="search" onSubmit={onSubmit}>
        <label className="visually-hidden" htmlFor={id}>
          {label}
        </label>
        <input
          id={id}
          ref={input}
          type="search"
          value={text}
          placeholder={placeholder}
          spellCheck={false}
          autoComplete="off"
          autoCapitalize="off"
          aria-invalid={refused !== undefined}
          aria-describedby={`${id}-note`}
          onChange={(event) => setText(event.target.value)}
        />
        <button type="submit">Search</button>
        <div id={`${id}-note`} className="search-note">
          {pending && <p className="faint">A filter: press Enter to apply it.</p>}
          {!pending && refused && <Refusal problem={refused} />}
        </div>
      </form>
    </search>
  );
}

/** What is wrong with the filter, in the server's words. */
function Refusal({ problem }: { problem: Problem }) {
  const reasons = problem.violations.map(({ description }) => description);
  return (
    <p className="field-error" role="alert">
      {reasons.length > 0 ? reasons.join("; ") : problem.message}
    </p>
  );
}
