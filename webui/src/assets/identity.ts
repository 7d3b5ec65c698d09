// Who is who, as kit::identity has it: an asset's UUID follows from its node,
// kind and natural key.
import { kindName, resourceId } from "../format/names";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";

/**
 * Name of an observed asset, `assets/{uuid}`: version 5 of node, kind and
 * natural key (RFC 9562, 5.5). The asset of kind NODE has the UUID of its node.
 */
export async function assetName(node: string, kind: AssetKind, naturalKey: string): Promise<string> {
  const namespace = resourceId(node);
  if (kind === AssetKind.NODE) {
    return `assets/${namespace}`;
  }
  const name = new TextEncoder().encode(`ASSET_KIND_${kindName(kind)}\0${naturalKey}`);
  const hashed = new Uint8Array(16 + name.length);
  hashed.set(bytesOf(namespace));
  hashed.set(name, 16);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-1", hashed)).subarray(0, 16);
  hash[6] = ((hash[6] ?? 0) & 0x0f) | 0x50;
  hash[8] = ((hash[8] ?? 0) & 0x3f) | 0x80;
  const text = [...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `assets/${text.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5")}`;
}

function bytesOf(uuid: string): number[] {
  const digits = uuid.replaceAll("-", "");
  return Array.from({ length: 16 }, (_, at) => Number.parseInt(digits.slice(at * 2, at * 2 + 2), 16));
}
