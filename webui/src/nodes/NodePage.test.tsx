import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { screen, within } from "@testing-library/react";
import { expect, test } from "vitest";
import { AssetService } from "../gen/assettrack/v1/asset_service_pb";
import { EventService } from "../gen/assettrack/v1/event_service_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { NodeHealth, NodeService } from "../gen/assettrack/v1/node_service_pb";
import { renderAt } from "../testing/render";
import NodePage from "./NodePage";

function open(identityConflict: boolean) {
  const transport = createRouterTransport(({ service }) => {
    service(NodeService, {
      getNode: ({ name }) => ({
        name,
        displayName: "node-1",
        health: NodeHealth.HEALTHY,
        identityConflict,
        activeAssets: 321n,
        activeKinds: [
          { kind: AssetKind.NODE, count: 1n },
          { kind: AssetKind.PACKAGE, count: 312n },
          { kind: AssetKind.SWAP, count: 8n },
        ],
      }),
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
