import { type Asset, ManagedFieldsSchema } from "../gen/assettrack/v1/asset_pb";
import { type AssetDetails, AssetDetailsSchema } from "../gen/assettrack/v1/details_pb";
import { itemsOf, type Fact, factsOf } from "./fields";
import { kindName, relationPhrase, stateName } from "../format/names";
import { localDateTime, millis } from "../format/time";

/** A field of an asset that differs between two revisions. */
export interface Change {
  /** Its path, such as `details.package.version`. */
  path: string;
  /** Values that only the older one has; none for an unset field. */
  before: string[];
  /** Values that only the newer one has. */
  after: string[];
  /** Whether the field is a list, of which only the difference is given. */
  list: boolean;
}

/**
 * What differs between two revisions of one asset, by path. Bookkeeping
 * (revision numbers, etag, times of sight and update) is left out: it differs
 * always.
 */
export function diffRevisions(before: Asset, after: Asset): Change[] {
  const old = leavesOf(before);
  const now = leavesOf(after);
  const changes: Change[] = [];
  for (const path of [...new Set([...old.keys(), ...now.keys()])].toSorted()) {
    const was = old.get(path) ?? EMPTY;
    const is = now.get(path) ?? EMPTY;
    if (was.items.join("\n") === is.items.join("\n")) {
      continue;
    }
    const list = was.list || is.list;
    changes.push({
      path,
      before: list ? missingFrom(was.items, is.items) : was.items,
      after: list ? missingFrom(is.items, was.items) : is.items,
      list,
    });
  }
  return changes;
}

interface Leaf {
  items: string[];
  list: boolean;
}

const EMPTY: Leaf = { items: [], list: false };

function leavesOf(asset: Asset): Map<string, Leaf> {
  const leaves = new Map<string, Leaf>();
  const add = (path: string, text: string) => {
    leaves.set(path, { items: text === "" ? [] : [text], list: false });
  };
  add("display_name", asset.displayName);
  add("state", asset.state === 0 ? "" : stateName(asset.state));
  const deleted = millis(asset.deleteTime);
  add("delete_time", deleted === undefined ? "" : localDateTime(new Date(deleted)));

  const seen = seenOf(asset.details);
  for (const fact of seen?.facts ?? []) {
    leaves.set(`details.${seen?.field}.${fact.field}`, leafOf(fact));
  }
  const relations = asset.details?.relations ?? [];
  leaves.set("details.relations", {
    items: relations.map(
      ({ type, kind, naturalKey }) => `${relationPhrase(type)} ${kindName(kind)} ${naturalKey}`,
    ),
    list: true,
  });
  if (asset.managed) {
    for (const fact of factsOf(ManagedFieldsSchema, asset.managed)) {
      if (fact.field !== "labels") {
        leaves.set(`managed.${fact.field}`, leafOf(fact));
      }
    }
    for (const [key, value] of Object.entries(asset.managed.labels)) {
      // A label with an empty value is there all the same.
      leaves.set(`managed.labels.${key}`, { items: [value || "(empty)"], list: false });
    }
  }
  return leaves;
}

function leafOf({ value }: Fact): Leaf {
  return { items: itemsOf(value), list: value.type === "list" || value.type === "table" };
}

function missingFrom(items: string[], others: string[]): string[] {
  const known = new Set(others);
  return items.filter((item) => !known.has(item));
}

/** What an agent saw, with the name of its field in the contract, such as `package`. */
export function seenOf(
  details: AssetDetails | undefined,
): { field: string; facts: Fact[] } | undefined {
  const seen = details?.details;
  if (!seen?.case) {
    return undefined;
  }
  const field = AssetDetailsSchema.field[seen.case];
  if (!field.message) {
    return undefined;
  }
  return { field: field.name, facts: factsOf(field.message, seen.value) };
}
