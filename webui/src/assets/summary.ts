import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { AssetDetails } from "../gen/assettrack/v1/details_pb";
import { bytes, count } from "../format/number";

/** The one line that tells an asset from its like in a list. */
export function summaryOf(details: AssetDetails | undefined): string {
  const seen = details?.details;
  if (!seen?.case) {
    return "";
  }
  // A kind without a case fails the type check.
  switch (seen.case) {
    case "node":
      return words(seen.value.osName, seen.value.kernelRelease, seen.value.architecture);
    case "disk":
      return words(size(seen.value.sizeBytes), seen.value.vendor, seen.value.model);
    case "filesystem":
      return words(seen.value.type, size(seen.value.sizeBytes), after("from", seen.value.source));
    case "networkInterface":
      return words(seen.value.operationalState, seen.value.type, seen.value.addresses.join(", "));
    case "package":
      return words(seen.value.version, seen.value.architecture);
    case "systemdUnit":
      return words(
        seen.value.enablement,
        seen.value.schedule.join(", "),
        after("starts", seen.value.starts),
        seen.value.description,
      );
    case "kernelModule":
      return words(seen.value.version, size(seen.value.sizeBytes));
    case "listeningSocket":
      return words(seen.value.program, seen.value.executable, after("by package", seen.value.package));
    case "firmware":
      return words(seen.value.vendor, seen.value.version, seen.value.releaseDate, seen.value.bootMode);
    case "board":
      return words(seen.value.vendor, seen.value.product, after("serial", seen.value.serial));
    case "processor":
      return words(
        seen.value.model,
        seen.value.cores > 0 ? `${seen.value.cores} cores, ${seen.value.threads} threads` : "",
        after("microcode", seen.value.microcode),
      );
    case "memoryModule":
      return words(
        size(seen.value.sizeBytes),
        seen.value.type,
        seen.value.speedMts > 0 ? `${count(seen.value.speedMts)} MT/s` : "",
        seen.value.vendor,
        seen.value.ecc ? "ECC" : "",
      );
    case "numaNode":
      return words(size(seen.value.memoryBytes), after("processors", seen.value.processors));
    case "volume":
      return words(
        seen.value.type,
        size(seen.value.sizeBytes),
        seen.value.raidLevel,
        seen.value.raidState,
        after("on", seen.value.members.join(", ")),
      );
    case "swap":
      return words(seen.value.type, size(seen.value.sizeBytes));
    case "route":
      return words(
        seen.value.type === "unicast" ? "" : seen.value.type,
        after("via", seen.value.gateway),
        after("through", seen.value.interface),
      );
    case "dnsResolver":
      return words(
        seen.value.nameServers.join(", "),
        after("search", seen.value.searchDomains.join(" ")),
      );
    case "pciDevice":
      return words(
        seen.value.class,
        seen.value.vendor || seen.value.vendorId,
        seen.value.product || seen.value.deviceId,
        after("driver", seen.value.driver),
      );
    case "usbDevice":
      return words(
        seen.value.class,
        seen.value.vendor || seen.value.vendorId,
        seen.value.product || seen.value.productId,
      );
    case "accelerator":
      return words(
        seen.value.type,
        seen.value.vendor,
        seen.value.product,
        size(seen.value.memoryBytes),
        after("driver", [seen.value.driver, seen.value.driverVersion].join(" ").trim()),
      );
    case "cronEntry":
      return words(seen.value.schedule, after("as", seen.value.user), seen.value.script);
    case "kernelParameter":
      return seen.value.value;
    case "user":
      return words(
        `UID ${seen.value.uid}`,
        seen.value.shell,
        seen.value.sudoers.length > 0 ? "sudo" : "",
        after("password", seen.value.password),
      );
    case "group":
      return words(`GID ${seen.value.gid}`, seen.value.members.join(", "));
    case "certificate":
      return words(
        seen.value.subject,
        seen.value.notAfterTime
          ? `until ${timestampDate(seen.value.notAfterTime).toISOString().slice(0, 10)}`
          : "",
        seen.value.key,
        seen.value.isCa ? "CA" : "",
      );
    case "pod":
      return words(
        seen.value.namespace,
        seen.value.hostNetwork ? "network of the node" : seen.value.addresses.join(", "),
      );
    case "container":
      return words(
        seen.value.image,
        [seen.value.namespace, seen.value.pod].filter((part) => part !== "").join("/"),
        seen.value.extraCapabilities.join(", "),
      );
    case "containerImage":
      return words(seen.value.tags.join(", "), size(seen.value.sizeBytes));
    default:
      // What a newer server may send.
      seen satisfies never;
      return "";
  }
}

function words(...parts: string[]): string {
  return parts.filter((part) => part !== "").join(" · ");
}

function after(word: string, text: string): string {
  return text === "" ? "" : `${word} ${text}`;
}

function size(value: bigint): string {
  return value === 0n ? "" : bytes(value);
}
