import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  DiskDetailsSchema,
  ListeningSocketDetailsSchema,
  MemoryModuleDetailsSchema,
  PciDeviceDetailsSchema,
} from "../gen/assettrack/v1/details_pb";
import { factsOf, labelOf } from "./fields";

test("every field of a kind is there, by descriptor", () => {
  const facts = factsOf(
    DiskDetailsSchema,
    create(DiskDetailsSchema, {
      device: "sda",
      sizeBytes: 1_610_612_736n,
      partitions: [{ device: "sda1", number: 1, startBytes: 1_048_576n, sizeBytes: 1_073_741_824n }],
    }),
  );
  const values = new Map(facts.map(({ field, value }) => [field, value]));
  expect([...values.keys()]).toEqual(DiskDetailsSchema.fields.map(({ name }) => name));
  expect(values.get("size_bytes")).toEqual({
    type: "text",
    text: "1.5 GiB",
    exact: "1,610,612,736 B",
  });
  expect(values.get("serial")).toEqual({ type: "none" });
  expect(values.get("rotational")).toMatchObject({ text: "no" });
  expect(values.get("partitions")).toEqual({
    type: "table",
    columns: ["Device", "Number", "Start", "Size", "Read only", "UUID", "Name"],
    rows: [
      [
        { text: "sda1", exact: "sda1" },
        { text: "1", exact: "1" },
        { text: "1 MiB", exact: "1,048,576 B" },
        { text: "1 GiB", exact: "1,073,741,824 B" },
        { text: "no", exact: "no" },
        { text: "", exact: "" },
        { text: "", exact: "" },
      ],
    ],
  });
});

test("a zero is a value where it says something", () => {
  const facts = factsOf(ListeningSocketDetailsSchema, create(ListeningSocketDetailsSchema));
  // User 0 is root.
  expect(facts.find(({ field }) => field === "uid")?.value).toMatchObject({ text: "0" });
  expect(facts.find(({ field }) => field === "program")?.value).toEqual({ type: "none" });
});

test.each([
  [{ numaNode: 0 }, { type: "text", text: "0" }],
  [{}, { type: "none" }],
])("an optional zero is a value, and an unset one is none: %o", (init, expected) => {
  const facts = factsOf(PciDeviceDetailsSchema, create(PciDeviceDetailsSchema, init));
  expect(facts.find(({ field }) => field === "numa_node")?.value).toMatchObject(expected);
});

test("rates have their unit, and none if they are not told", () => {
  const facts = factsOf(
    MemoryModuleDetailsSchema,
    create(MemoryModuleDetailsSchema, { speedMts: 3200 }),
  );
  expect(facts.find(({ field }) => field === "speed_mts")?.value).toMatchObject({ text: "3,200 MT/s" });
  expect(facts.find(({ field }) => field === "configured_speed_mts")?.value).toEqual({ type: "none" });
});

test.each([
  ["max_mhz", "Max clock"],
  ["configured_speed_mts", "Configured speed"],
  ["fingerprint_sha256", "Fingerprint SHA-256"],
  ["is_ca", "Is CA"],
  ["numa_node", "NUMA node"],
  ["pci_slot", "PCI slot"],
  ["kubernetes_node_name", "Kubernetes node name"],
  ["selinux", "SELinux"],
  ["cpu_model", "CPU model"],
  ["memory_bytes", "Memory"],
  ["boot_time", "Boot"],
  ["os_id", "OS ID"],
  ["unit", "Unit"],
])("%s is labelled %s", (field, label) => expect(labelOf(field)).toBe(label));
