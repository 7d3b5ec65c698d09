import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import { AssetService } from "../gen/assettrack/v1/asset_service_pb";
import { EventService } from "../gen/assettrack/v1/event_service_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { Completeness, NodeHealth, NodeService } from "../gen/assettrack/v1/node_service_pb";
import { renderAt } from "../testing/render";
import NodePage from "./NodePage";

function open(
  identityConflict: boolean,
  health = NodeHealth.HEALTHY,
  requestScan: (request: { name: string }) => object = () => ({}),
) {
  const transport = createRouterTransport(({ service }) => {
    service(NodeService, {
      getNode: ({ name }) => ({
        name,
        displayName: "node-1",
        health,
        identityConflict,
        activeAssets: 321n,
        activeKinds: [
          { kind: AssetKind.NODE, count: 1n },
          { kind: AssetKind.PACKAGE, count: 312n },
          { kind: AssetKind.SWAP, count: 8n },
        ],
        completeness: Completeness.INCOMPLETE,
        kinds: [
          { kind: AssetKind.SWAP, completeness: Completeness.COMPLETE, count: 8n },
          {
            kind: AssetKind.PACKAGE,
            completeness: Completeness.INCOMPLETE,
            count: 312n,
            reportedCount: 313n,
            deadLetters: 2n,
          },
        ],
      }),
      requestScan,
    });
    service(AssetService, {
      getAsset: () => {
        throw new ConnectError("none", Code.NotFound);
      },
    });
    service(EventService, { listEvents: () => ({}) });
  });
  renderAt(<NodePage />, "/nodes/:id", "/nodes/1", transport);
}

test("the kinds that it has are counted, in groups", async () => {
  open(false);
  const assets = await screen.findByRole("region", { name: "Assets" });
  const links = within(assets).getAllByRole("link");
  expect(links.map((link) => link.textContent)).toEqual(["321 active", "SWAP", "PACKAGE"]);
  expect(within(assets).getByText("312")).toBeTruthy();
  expect(links[1]?.getAttribute("href")).toBe("/assets?kind=SWAP&state=ACTIVE&node=1");
  expect(screen.queryByText("IDENTITY CONFLICT")).toBeNull();
});

test("two agents under one identity cannot be overlooked", async () => {
  open(true);
  expect(await screen.findByText("IDENTITY CONFLICT")).toBeTruthy();
  expect(screen.getByRole("alert").textContent).toMatch(/Two agents speak under the identity/);
});

test("what is not complete is told, and a scan can be asked for", async () => {
  const user = userEvent.setup();
  const asked: string[] = [];
  open(false, NodeHealth.HEALTHY, ({ name }) => {
    asked.push(name);
    if (asked.length === 1) {
      throw new ConnectError("the processor is away", Code.Unavailable);
    }
    return {};
  });
  const panel = await screen.findByRole("region", { name: "Completeness" });
  expect(panel.textContent).toMatch(/PACKAGE.*INCOMPLETE 312 here, 313 by the agent/);
  expect(panel.textContent).toMatch(/complete as of never · 2 dead letters since/);
  expect(within(panel).queryByText("SWAP")).toBeNull();
  await user.click(within(panel).getByRole("button", { name: "Scan now" }));
  expect((await within(panel).findByRole("alert")).textContent).toMatch(/the processor is away/);
  await user.click(within(panel).getByRole("button", { name: "Scan now" }));
  await within(panel).findByText(/Asked for/);
  expect(asked).toEqual(["nodes/1", "nodes/1"]);
});

test("a retired node says so and is not scanned", async () => {
  open(false, NodeHealth.RETIRED);
  expect(await screen.findByText("RETIRED")).toBeTruthy();
  expect(screen.getByText(/This node was retired/)).toBeTruthy();
  expect(screen.queryByRole("button", { name: "Scan now" })).toBeNull();
});
