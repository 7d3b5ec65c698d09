// From what a person types to an AIP-160 filter.

/** First parts of the field paths that a filter may name. */
const FIELDS = new Set([
  "actor",
  "asset",
  "create_time",
  "delete_time",
  "details",
  "display_name",
  "first_seen_time",
  "kind",
  "last_seen_time",
  "managed",
  "name",
  "natural_key",
  "node",
  "node_display_name",
  "observe_time",
  "record_time",
  "revision",
  "state",
  "type",
  "update_time",
]);

/**
 * Whether a text is meant as a filter and not as words to look for. Names of
 * things hold colons, dots and slashes (`openssl:amd64`, `/dev/sda`), so a colon
 * alone is no sign of one.
 */
export function isFilter(text: string): boolean {
  if (/[=<>"()]|(^|\s)(AND|OR|NOT)(\s|$)/.test(text)) {
    return true;
  }
  return [...text.matchAll(/([a-z_]+)(?:\.[\w./-]+)*\s*:/g)].some(([, root = ""]) =>
    FIELDS.has(root),
  );
}

/** A value in quotes, for any text. */
export function quote(text: string): string {
  return `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/** The same for one that is compared as it is: an asterisk stands for itself. */
export function quoteExact(text: string): string {
  return quote(text).replaceAll("*", String.raw`\*`);
}

/** The filter for what was typed: itself, or all of its words. */
export function filterOfText(text: string): string {
  const trimmed = text.trim();
  if (trimmed === "" || isFilter(trimmed)) {
    return trimmed;
  }
  return trimmed
    .split(/\s+/)
    .map((word) => (/^\w+$/.test(word) ? word : quote(word)))
    .join(" AND ");
}

/** Ends in an operator or a keyword that would take what follows for its own. */
const DANGLING = /([=<>:]|\b(AND|OR|NOT))$/;

/**
 * A filter and the facets beside it. The filter comes first, so that the
 * character at which the server finds a fault is the one that was typed. It
 * needs no parentheses: OR binds tighter than AND (AIP-160).
 */
export function narrowed(filter: string, facets: readonly string[]): string {
  const given = facets.filter((facet) => facet !== "");
  if (filter === "" || given.length === 0) {
    return filter + given.join(" AND ");
  }
  const whole = DANGLING.test(filter) ? `(${filter})` : filter;
  return [whole, ...given].join(" AND ");
}
