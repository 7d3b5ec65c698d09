// The whole system through a real browser: ASSETTRACK_URL names a running
// gateway that serves the built UI, with the agent of this machine behind it.
//
//   CHROMIUM                   browser to use; default /usr/bin/chromium
//   ASSETTRACK_SCREENSHOTS     folder for pictures; none are taken without it
//   ASSETTRACK_BROWSER_PACKAGE package to look for; default bash
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { chromium } from "playwright-core";

const url = process.env.ASSETTRACK_URL;
const pictures = process.env.ASSETTRACK_SCREENSHOTS;
const wanted = process.env.ASSETTRACK_BROWSER_PACKAGE ?? "bash";
const UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";

/** The first scan of an agent, and its way through the pipeline. */
const FIRST_DATA_MS = 60_000;

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

async function picture(page, name) {
  if (pictures) {
    await mkdir(pictures, { recursive: true });
    await page.screenshot({ path: join(pictures, `${name}.png`), fullPage: true });
  }
}

describe("the UI on a running system", () => {
  assert.ok(url, "ASSETTRACK_URL is not set: `cargo xtask test` sets it");
  let browser;

  before(async () => {
    const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
    browser = await chromium.launch({ executablePath, args: FLAGS });
  });
  after(() => browser?.close());

  /** A page that notes every console error and every request to elsewhere. */
  async function open(path, options = {}) {
    const page = await browser.newPage({ viewport: { width: 1280, height: 860 }, ...options });
    page.setDefaultTimeout(15_000);
    const faults = [];
    const { origin } = new URL(url);
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") {
        faults.push(`console: ${message.text()}`);
      }
    });
    page.on("pageerror", (error) => faults.push(`exception: ${error.message}`));
    page.on("request", (request) => {
      if (new URL(request.url()).origin !== origin) {
        faults.push(`request to elsewhere: ${request.url()}`);
      }
    });
    await page.goto(new URL(path, url).href);
    return { page, faults };
  }

  test("a package is found by name, opened, and its revisions are there", async () => {
    const { page, faults } = await open("/assets");
    await page.getByRole("searchbox", { name: "Search assets" }).fill(wanted);
    await page.getByRole("button", { name: "PACKAGE", exact: true }).click();
    await page.waitForURL(
      ({ searchParams }) =>
        searchParams.get("q") === wanted && searchParams.get("kind") === "PACKAGE",
    );
    const link = page.getByRole("link", { name: wanted, exact: true }).first();
    // The list refreshes by itself until the first scan is through.
    await link.waitFor({ timeout: FIRST_DATA_MS });
    await picture(page, "assets");

    await link.click();
    await page.waitForURL(new RegExp(`/assets/${UUID}$`));
    await page.getByRole("heading", { level: 1 }).getByText(wanted).waitFor();
    const version = page.getByText("Version", { exact: true }).locator("xpath=following-sibling::dd");
    assert.match((await version.innerText()).trim(), /^\d/);

    const revisions = page.getByRole("region", { name: "Revisions" }).getByRole("listitem");
    await revisions.first().waitFor();
    // A new inventory knows a package from its first appearance on.
    assert.match(await revisions.last().innerText(), /^1\s+APPEARED/);
    await picture(page, "asset");
    assert.deepEqual(faults, []);
    await page.close();
  });

  test("a recorded asset can be edited; the edit shows in its revisions", async () => {
    const { page, faults } = await open("/assets/new");
    const name = `Rack of the browser test ${Date.now()}`;
    await page.getByLabel("Display name").fill(name);
    await page.getByLabel("Location").fill("dc1/row 4/rack 12");
    await page.getByRole("button", { name: "Record asset" }).click();
    await page.waitForURL(new RegExp(`/assets/${UUID}$`));
    await page.getByRole("heading", { level: 1 }).getByText(name).waitFor();

    await page.getByRole("button", { name: "Edit", exact: true }).click();
    await page.getByLabel("Owner").fill("facilities");
    await page.getByRole("button", { name: "Add label" }).click();
    await page.getByLabel("Label key").fill("env");
    await page.getByLabel("Value of label env").fill("prod");
    await page.getByRole("button", { name: "Save" }).click();
    const revisions = page.getByRole("region", { name: "Revisions" });
    await revisions.getByText("managed.labels.env").waitFor();
    await revisions.getByText("managed.owner").waitFor();
    assert.equal(await revisions.getByRole("listitem").count(), 2);
    await picture(page, "asset-edited");

    await page.getByRole("button", { name: "Delete record…" }).click();
    await page.getByRole("button", { name: "Delete", exact: true }).click();
    await page.getByText("This record was deleted").waitFor();
    assert.deepEqual(faults, []);
    await page.close();
  });

  test("a bad filter is refused under the box, and says what is wrong", async () => {
    const { page, faults } = await open("/assets?kind=PACKAGE");
    const box = page.getByRole("searchbox", { name: "Search assets" });
    await box.fill("knd=PACKAGE");
    await box.press("Enter");
    const refusal = page.getByRole("search").getByRole("alert");
    await refusal.waitFor();
    assert.match(await refusal.innerText(), /knd/);
    await picture(page, "bad-filter");
    assert.deepEqual(faults, []);
    await page.close();
  });

  test("overview, nodes and events show this machine", async () => {
    const { page, faults } = await open("/", { colorScheme: "dark" });
    const kinds = page.getByRole("region", { name: "Assets by kind" });
    await kinds.getByRole("link", { name: "PACKAGE" }).waitFor({ timeout: FIRST_DATA_MS });
    await page.getByText("CONSUMING").first().waitFor({ timeout: FIRST_DATA_MS });
    await picture(page, "overview");

    await page.getByRole("navigation").getByRole("link", { name: "Nodes" }).click();
    const node = page.getByRole("row").filter({ hasText: "HEALTHY" }).getByRole("link").first();
    await node.waitFor({ timeout: FIRST_DATA_MS });
    await picture(page, "nodes");
    await node.click();
    await page.getByText("Kernel release").waitFor();
    await picture(page, "node");

    await page.getByRole("navigation").getByRole("link", { name: "Events" }).click();
    await page.getByRole("row").filter({ hasText: "APPEARED" }).first().waitFor();
    await picture(page, "events");
    assert.deepEqual(faults, []);
    await page.close();
  });

  test("an address of a page can be opened directly; an unknown one says so", async () => {
    const { page } = await open("/assets/00000000-0000-5000-8000-000000000000");
    await page.getByText("There is no asset").waitFor();
    await page.goto(new URL("/no/such/page", url).href);
    await page.getByText("There is no page at").waitFor();
    await page.close();
  });
});
