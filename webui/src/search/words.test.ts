import { describe, expect, test } from "vitest";
import { filterOfText, isFilter, narrowed, quote } from "./words";

describe("what counts as a filter", () => {
  test.each([
    "kind=PACKAGE",
    "revision > 3",
    'display_name:"lib*"',
    "managed.labels.env:prod",
    "bash OR zsh",
    "NOT bash",
    "(bash)",
    "knd=PACKAGE", // a slip: the server shall say so, and not find nothing
  ])("%s", (text) => expect(isFilter(text)).toBe(true));

  test.each([
    "bash",
    "openssl:amd64",
    "/dev/sda",
    "systemd-journald.service",
    "10.0.0.5:443",
    "order for android", // OR, AND inside of words
  ])("not %s", (text) => expect(isFilter(text)).toBe(false));
});

test("words are all looked for, quoted where the grammar needs it", () => {
  expect(filterOfText("  bash ")).toBe("bash");
  expect(filterOfText("openssl:amd64 node-1")).toBe('"openssl:amd64" AND "node-1"');
  expect(filterOfText("kind=PACKAGE")).toBe("kind=PACKAGE");
  expect(filterOfText("   ")).toBe("");
});

test("a value in quotes keeps its own quotes and backslashes", () => {
  expect(quote('a "b" \\ c')).toBe('"a \\"b\\" \\\\ c"');
});

test("facets come after the text, so that positions in it stay true", () => {
  expect(narrowed("bash OR zsh", ["kind=PACKAGE", ""])).toBe("bash OR zsh AND kind=PACKAGE");
  expect(narrowed("bash", ["", ""])).toBe("bash");
  expect(narrowed("", ["kind=PACKAGE", "state=ACTIVE"])).toBe("kind=PACKAGE AND state=ACTIVE");
});

test("half a filter does not swallow a facet", () => {
  expect(narrowed("managed.owner=", ["kind=PACKAGE"])).toBe("(managed.owner=) AND kind=PACKAGE");
  expect(narrowed("bash AND", ["kind=PACKAGE"])).toBe("(bash AND) AND kind=PACKAGE");
  expect(narrowed("BRAND", ["kind=PACKAGE"])).toBe("BRAND AND kind=PACKAGE");
});
