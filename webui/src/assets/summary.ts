import type { AssetDetails } from "../gen/assettrack/v1/details_pb";
import { bytes } from "../format/number";

/** The one line that tells an asset from its like in a list. */
export function summaryOf(details: AssetDetails | undefined): string {
  const seen = details?.details;
  switch (seen?.case) {
    case "node":
      return words(seen.value.osName, seen.value.kernelRelease, seen.value.architecture);
    case "disk":
      return words(size(seen.value.sizeBytes), seen.value.vendor, seen.value.model);
    case "filesystem":
      return words(seen.value.type, size(seen.value.sizeBytes), `from ${seen.value.source}`);
    case "networkInterface":
      return words(seen.value.operationalState, seen.value.type, seen.value.addresses.join(", "));
    case "package":
      return words(seen.value.version, seen.value.architecture);
    case "systemdUnit":
      return words(seen.value.enablement, seen.value.description);
    case "kernelModule":
      return words(seen.value.version, size(seen.value.sizeBytes));
    case "listeningSocket":
      return words(seen.value.program, seen.value.executable);
    default:
      return "";
  }
}

function words(...parts: string[]): string {
  return parts.filter((part) => part !== "").join(" · ");
}

function size(value: bigint): string {
  return value === 0n ? "" : bytes(value);
}
