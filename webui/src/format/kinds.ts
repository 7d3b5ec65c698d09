// Kinds in groups, as people look for them: there are too many for one row.
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { KINDS } from "./names";

/** A group of kinds, in the order of their numbers. */
export interface KindGroup {
  label: string;
  kinds: AssetKind[];
}

const GROUPS = ["Machine", "Storage", "Network", "Software", "Access", "Containers", "People"] as const;

// A kind without a group fails the type check.
const GROUP_OF: Record<Exclude<AssetKind, AssetKind.UNSPECIFIED>, (typeof GROUPS)[number]> = {
  [AssetKind.NODE]: "Machine",
  [AssetKind.FIRMWARE]: "Machine",
  [AssetKind.BOARD]: "Machine",
  [AssetKind.PROCESSOR]: "Machine",
  [AssetKind.MEMORY_MODULE]: "Machine",
  [AssetKind.NUMA_NODE]: "Machine",
  [AssetKind.PCI_DEVICE]: "Machine",
  [AssetKind.USB_DEVICE]: "Machine",
  [AssetKind.ACCELERATOR]: "Machine",
  [AssetKind.DISK]: "Storage",
  [AssetKind.VOLUME]: "Storage",
  [AssetKind.FILESYSTEM]: "Storage",
  [AssetKind.SWAP]: "Storage",
  [AssetKind.NETWORK_INTERFACE]: "Network",
  [AssetKind.ROUTE]: "Network",
  [AssetKind.DNS_RESOLVER]: "Network",
  [AssetKind.LISTENING_SOCKET]: "Network",
  [AssetKind.PACKAGE]: "Software",
  [AssetKind.SYSTEMD_UNIT]: "Software",
  [AssetKind.CRON_ENTRY]: "Software",
  [AssetKind.KERNEL_MODULE]: "Software",
  [AssetKind.KERNEL_PARAMETER]: "Software",
  [AssetKind.USER]: "Access",
  [AssetKind.GROUP]: "Access",
  [AssetKind.CERTIFICATE]: "Access",
  [AssetKind.POD]: "Containers",
  [AssetKind.CONTAINER]: "Containers",
  [AssetKind.CONTAINER_IMAGE]: "Containers",
  [AssetKind.CUSTOM]: "People",
};

/** These kinds in their groups; empty groups are left out, kinds that this build does not know come last. */
export function grouped(kinds: readonly AssetKind[]): KindGroup[] {
  const groups: KindGroup[] = [...GROUPS, "Other"].map((label) => ({ label, kinds: [] }));
  const known: Partial<Record<AssetKind, string>> = GROUP_OF;
  for (const kind of kinds.toSorted((one, other) => one - other)) {
    groups.find(({ label }) => label === (known[kind] ?? "Other"))?.kinds.push(kind);
  }
  return groups.filter((group) => group.kinds.length > 0);
}

/** All kinds. */
export const KIND_GROUPS: readonly KindGroup[] = grouped(KINDS);
