// Messages by their descriptors, so that a new field or kind needs no code here.
import { type DescField, type DescMessage, isMessage, type Message, ScalarType } from "@bufbuild/protobuf";
import { reflect, type ReflectMessage } from "@bufbuild/protobuf/reflect";
import { FeatureSet_FieldPresence, type Timestamp, timestampDate, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { localDateTime } from "../format/time";
import { bytes, count } from "../format/number";

/** A field as it is shown. */
export interface Fact {
  /** Its name in the contract, such as `memory_bytes`. */
  field: string;
  /** For people, such as `Memory`. */
  label: string;
  value: FactValue;
}

export type FactValue =
  | { type: "none" }
  | { type: "text"; text: string; exact: string }
  | { type: "time"; at: Timestamp }
  | { type: "list"; items: string[] }
  | { type: "table"; columns: string[]; rows: Cell[][] };

/** One value of a table. */
export interface Cell {
  text: string;
  exact: string;
}

/** Every field of a message in the order of the contract, unset ones too. */
export function factsOf(schema: DescMessage, message: Message): Fact[] {
  const reflected = reflect(schema, message);
  return schema.fields.map((field) => ({
    field: field.name,
    label: labelOf(field.name),
    value: valueOf(reflected, field),
  }));
}

function valueOf(message: ReflectMessage, field: DescField): FactValue {
  switch (field.fieldKind) {
    case "scalar":
    case "enum":
      if (field.presence === FeatureSet_FieldPresence.EXPLICIT && !message.isSet(field)) {
        return { type: "none" };
      }
      return scalarOf(field, message.get(field));
    case "message": {
      const inner = message.isSet(field) ? message.get(field).message : undefined;
      if (inner === undefined) {
        return { type: "none" };
      }
      return isMessage(inner, TimestampSchema)
        ? { type: "time", at: inner }
        : { type: "table", ...tableOf([reflect(field.message, inner)]) };
    }
    case "list": {
      const items = [...message.get(field)];
      if (items.length === 0) {
        return { type: "none" };
      }
      return field.listKind === "message"
        ? { type: "table", ...tableOf(items as ReflectMessage[]) }
        : { type: "list", items: items.map(String) };
    }
    case "map": {
      const items = [...message.get(field)].map(([key, value]) => `${key}=${String(value)}`);
      return items.length === 0 ? { type: "none" } : { type: "list", items: items.toSorted() };
    }
  }
}

function tableOf(messages: ReflectMessage[]): { columns: string[]; rows: Cell[][] } {
  const fields = messages[0]?.desc.fields ?? [];
  return {
    columns: fields.map(({ name }) => labelOf(name)),
    rows: messages.map((message) => fields.map((field) => cellOf(valueOf(message, field)))),
  };
}

/** Units of rates by the end of the field's name. */
const RATES = [
  ["_mbps", "Mbit/s"],
  ["_mhz", "MHz"],
  ["_mts", "MT/s"],
] as const;

/** What an empty, zero or false value says depends on the field. */
function scalarOf(field: DescField, value: unknown): FactValue {
  if (value === "" || value === undefined || value === null) {
    return { type: "none" };
  }
  if (typeof value === "boolean") {
    return plain(value ? "yes" : "no");
  }
  if (field.fieldKind === "enum") {
    const known = field.enum.value[Number(value)];
    return Number(value) === 0 ? { type: "none" } : plain(known?.localName ?? String(value));
  }
  if (typeof value === "number" || typeof value === "bigint") {
    // Sizes and speeds of 0 mean that they cannot be told.
    if (field.name.endsWith("_bytes")) {
      const exact = `${count(value)} B`;
      return Number(value) === 0 ? { type: "none" } : { type: "text", text: bytes(value), exact };
    }
    for (const [suffix, unit] of RATES) {
      if (field.name.endsWith(suffix)) {
        return Number(value) === 0 ? { type: "none" } : plain(`${count(value)} ${unit}`);
      }
    }
    return plain(String(value));
  }
  if (field.scalar === ScalarType.BYTES && value instanceof Uint8Array) {
    return plain(`${value.length} bytes`);
  }
  return plain(String(value));
}

function plain(text: string): FactValue {
  return { type: "text", text, exact: text };
}

/** A value as one line. */
function cellOf(value: FactValue): Cell {
  const exact = itemsOf(value).join(", ");
  return value.type === "text" ? { text: value.text, exact } : { text: exact, exact };
}

/** A value as exact texts, none for an unset one: what revisions are compared by. */
export function itemsOf(value: FactValue): string[] {
  switch (value.type) {
    case "none":
      return [];
    case "text":
      return [value.exact];
    case "time":
      return [localDateTime(timestampDate(value.at))];
    case "list":
      return value.items;
    case "table":
      return value.rows.map((row) =>
        row
          .map((cell, column) => `${value.columns[column] ?? ""} ${cell.exact}`)
          .join(", "),
      );
  }
}

const UNIT = /_(bytes|mbps|mts|time)$/;
const ACRONYMS = new Set(
  "ca cpu dns ecc gid id iommu mac mtu numa os pci raid sku tpm uid usb uuid vlan wwn".split(" "),
);
/** Words that are written otherwise. */
const SPELLED = new Map([
  ["apparmor", "AppArmor"],
  ["kubernetes", "Kubernetes"],
  ["mhz", "clock"],
  ["selinux", "SELinux"],
  ["sha256", "SHA-256"],
]);

/** `cpu_model` → `CPU model`, `memory_bytes` → `Memory`. */
export function labelOf(fieldName: string): string {
  const words = fieldName
    .replace(UNIT, "")
    .split("_")
    .map((word) => SPELLED.get(word) ?? (ACRONYMS.has(word) ? word.toUpperCase() : word));
  const label = words.join(" ");
  return label.charAt(0).toUpperCase() + label.slice(1);
}
