import { describe, expect, test } from "vitest";
import { curl, grpcurl } from "../calls/commands";
import { bytes } from "./number";
import { ServerClock } from "./serverClock";
import { age } from "./time";

test.each([
  [0, "just now"],
  [-90_000, "just now"],
  [12_999, "12 s ago"],
  [3 * 60_000, "3 min ago"],
  [26 * 3_600_000, "1 d ago"],
])("%i ms", (passed, text) => expect(age(0, passed)).toBe(text));

test("bytes", () => {
  expect(bytes(1_023n)).toBe("1,023 B");
  expect(bytes(16_777_216n)).toBe("16 MiB");
});

describe("the server's clock", () => {
  test("rounding of the Date header is no difference", () => {
    const clock = new ServerClock();
    clock.observe("Mon, 23 Nov 2026 12:00:00 GMT", Date.parse("2026-11-23T12:00:01.4Z"), Date.parse("2026-11-23T12:00:01.6Z"));
    expect(clock.offsetMs).toBe(0);
  });

  test("a device that is 5 minutes fast is corrected; no header changes nothing", () => {
    const clock = new ServerClock();
    const device = Date.parse("2026-11-23T12:05:00.5Z");
    clock.observe("Mon, 23 Nov 2026 12:00:00 GMT", device, device);
    expect(clock.offsetMs).toBe(-300_000);
    clock.observe(null, device, device);
    expect(clock.offsetMs).toBe(-300_000);
  });
});

test("commands survive a shell", () => {
  expect(curl("http://h:1", "/v1/assets", { filter: "owner=\"o'neil\"", showDeleted: "" })).toBe(
    `curl -sG 'http://h:1/v1/assets' --data-urlencode 'filter=owner="o'\\''neil"'`,
  );
  expect(grpcurl("https://h", "AssetService/GetAsset", { name: "assets/1" })).toBe(
    `grpcurl -d '{"name":"assets/1"}' h:443 assettrack.v1.AssetService/GetAsset`,
  );
});
