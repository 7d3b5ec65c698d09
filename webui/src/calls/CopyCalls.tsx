import { useRef, useState } from "react";

/** Commands that give the same answer as the page; to be copied. */
export function CopyCalls({ commands }: { commands: readonly string[] }) {
  return (
    <details className="help">
      <summary>As an API call</summary>
      {commands.map((command) => (
        <Command key={command} command={command} />
      ))}
    </details>
  );
}

function Command({ command }: { command: string }) {
  const code = useRef<HTMLElement>(null);
  const [note, setNote] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(command);
      setNote("Copied");
    } catch {
      // Browsers have no clipboard on plain HTTP but for loopback.
      if (code.current) {
        window.getSelection()?.selectAllChildren(code.current);
      }
      setNote("Selected: copy with the keyboard");
    }
  };
  return (
    <div className="command">
      <code ref={code}>{command}</code>
      <button type="button" onClick={copy}>
        Copy
      </button>
      <output className="faint">{note}</output>
    </div>
  );
}
