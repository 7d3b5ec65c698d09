import type { ReactNode } from "react";
import { Link } from "react-router";

/** The list that a page belongs to, before its heading. */
export function Crumb({ to, children }: { to: string; children: ReactNode }) {
  return (
    <span className="crumb">
      <Link to={to}>{children}</Link> /{" "}
    </span>
  );
}
