import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Asset, Lifecycle, type ManagedFieldsSchema } from "../gen/assettrack/v1/asset_pb";
import { lifecycleName } from "../format/names";

/** What a person is writing about an asset. */
export interface Draft {
  displayName: string;
  owner: string;
  lifecycle: Lifecycle;
  location: string;
  labels: Label[];
  notes: string;
}

/** One row of the label editor. */
export interface Label {
  /** Tells rows apart while their keys are typed. */
  row: number;
  key: string;
  value: string;
}

export type DraftField = keyof Draft;

/** Each field with its path in the contract, for masks and violations. */
export const PATHS: Record<DraftField, string> = {
  displayName: "display_name",
  owner: "managed.owner",
  lifecycle: "managed.lifecycle",
  location: "managed.location",
  labels: "managed.labels",
  notes: "managed.notes",
};

const FIELDS = Object.keys(PATHS) as DraftField[];

/** The draft that changes nothing. */
export function draftOf(asset: Pick<Asset, "displayName" | "managed">): Draft {
  const { managed } = asset;
  return {
    displayName: asset.displayName,
    owner: managed?.owner ?? "",
    lifecycle: managed?.lifecycle ?? Lifecycle.UNSPECIFIED,
    location: managed?.location ?? "",
    labels: Object.entries(managed?.labels ?? {})
      .toSorted(([one], [other]) => (one < other ? -1 : 1))
      .map(([key, value], row) => ({ row, key, value })),
    notes: managed?.notes ?? "",
  };
}

/** The managed fields of a draft; label rows without a key are left out. */
export function managedOf(draft: Draft): MessageInitShape<typeof ManagedFieldsSchema> {
  return {
    owner: draft.owner.trim(),
    lifecycle: draft.lifecycle,
    location: draft.location.trim(),
    labels: Object.fromEntries(
      draft.labels
        .filter(({ key }) => key.trim() !== "")
        .map(({ key, value }) => [key.trim(), value.trim()]),
    ),
    notes: draft.notes,
  };
}

/** A field as one text, for comparing and for showing. */
export function textOfField(draft: Draft, field: DraftField): string {
  switch (field) {
    case "lifecycle":
      return draft.lifecycle === Lifecycle.UNSPECIFIED ? "" : lifecycleName(draft.lifecycle);
    case "labels":
      return Object.entries(managedOf(draft).labels ?? {})
        .map(([key, value]) => `${key}=${value}`)
        .toSorted()
        .join(", ");
    case "notes":
      return draft.notes;
    default:
      return draft[field].trim();
  }
}

/** The fields in which two drafts differ. */
export function changedFields(base: Draft, mine: Draft): DraftField[] {
  return FIELDS.filter((field) => textOfField(base, field) !== textOfField(mine, field));
}

/** A draft brought over to a newer state of the record. */
export interface Merge {
  /** `mine` with what only they changed taken in. */
  merged: Draft;
  /** Fields that only they changed. */
  taken: DraftField[];
  /** Fields that both changed, to different ends: a person has to choose. */
  conflicts: DraftField[];
}

/** Brings `mine`, made from `base`, over to `theirs`. Nothing of either is dropped in silence. */
export function mergeDrafts(base: Draft, mine: Draft, theirs: Draft): Merge {
  const byMe = new Set(changedFields(base, mine));
  const byThem = changedFields(base, theirs);
  const taken = byThem.filter((field) => !byMe.has(field));
  const conflicts = byThem.filter(
    (field) => byMe.has(field) && textOfField(mine, field) !== textOfField(theirs, field),
  );
  return { merged: takeFields(mine, theirs, taken), taken, conflicts };
}

/** `mine` with these fields as in `theirs`. */
export function takeFields(mine: Draft, theirs: Draft, fields: readonly DraftField[]): Draft {
  return { ...mine, ...Object.fromEntries(fields.map((field) => [field, theirs[field]])) };
}

/** What is wrong with the labels, before the server is asked: only it could not tell rows apart. */
export function labelProblem(labels: readonly Label[]): string | undefined {
  const seen = new Set<string>();
  for (const { key, value } of labels) {
    const name = key.trim();
    if (name === "" && value.trim() !== "") {
      return `The value “${value.trim()}” has no key.`;
    }
    if (name !== "" && seen.has(name)) {
      return `The key “${name}” is there twice.`;
    }
    seen.add(name);
  }
  return undefined;
}
