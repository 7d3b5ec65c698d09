import { expect, test } from "vitest";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { assetName } from "./identity";

const NODE = "nodes/1368ea7e-dfe3-5393-9a69-91e01a346240";

test.each([
  // As in kit's test of identities that are fixed for ever.
  [AssetKind.PACKAGE, "dpkg/openssl:amd64", "47555973-505e-5a51-a067-6b0b36c361d5"],
  [AssetKind.NODE, "node", "1368ea7e-dfe3-5393-9a69-91e01a346240"],
  // Computed with Python's uuid.
  [AssetKind.CONTAINER_IMAGE, "sha256:äöü", "400a8093-18dc-5d41-a4b9-11bb41bdac4b"],
])("the name of %s %s is known without asking", async (kind, key, uuid) => {
  expect(await assetName(NODE, kind, key)).toBe(`assets/${uuid}`);
});
