import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { AssetDetailsSchema } from "../gen/assettrack/v1/details_pb";
import { summaryOf } from "./summary";

type Details = NonNullable<MessageInitShape<typeof AssetDetailsSchema>["details"]>;

const TABLE: [string, Details][] = [
  ["ext4 · 1 GiB", { case: "filesystem", value: { type: "ext4", sizeBytes: 1_073_741_824n } }],
  [
    "16 GiB · DDR4 · 3,200 MT/s · ECC",
    {
      case: "memoryModule",
      value: { sizeBytes: 17_179_869_184n, type: "DDR4", speedMts: 3200, ecc: true },
    },
  ],
  ["via 10.0.0.1 · through eth0", { case: "route", value: { type: "unicast", gateway: "10.0.0.1", interface: "eth0" } }],
  ["blackhole", { case: "route", value: { type: "blackhole" } }],
  ["SATA controller · 8086 · 2922 · driver ahci", { case: "pciDevice", value: { class: "SATA controller", vendorId: "8086", deviceId: "2922", driver: "ahci" } }],
  ["UID 0 · /bin/bash · sudo", { case: "user", value: { shell: "/bin/bash", sudoers: ["ALL"] } }],
  [
    "CN=x · until 2027-01-15 · CA",
    {
      case: "certificate",
      value: { subject: "CN=x", notAfterTime: timestampFromDate(new Date("2027-01-15T08:00:00Z")), isCa: true },
    },
  ],
  ["nginx:1.27 · shop/web-0", { case: "container", value: { image: "nginx:1.27", namespace: "shop", pod: "web-0" } }],
];

test.each(TABLE)("%s", (expected, details) => {
  expect(summaryOf(create(AssetDetailsSchema, { details }))).toBe(expected);
});

test.each(AssetDetailsSchema.fields.filter((field) => field.oneof).map((field) => field.localName))(
  "%s that says nothing makes no odd words",
  (kind) => {
    const details = { case: kind, value: {} } as unknown as Details;
    expect(summaryOf(create(AssetDetailsSchema, { details }))).toMatch(/^([UG]ID 0)?$/);
  },
);

test("no details make no words", () => {
  expect(summaryOf(undefined)).toBe("");
});
