import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { createRouterTransport } from "@connectrpc/connect";
import { screen, within } from "@testing-library/react";
import { expect, test } from "vitest";
import { AssetState } from "../gen/assettrack/v1/asset_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { EventService } from "../gen/assettrack/v1/event_service_pb";
import { NodeHealth } from "../gen/assettrack/v1/node_service_pb";
import { OverviewSchema, OverviewService } from "../gen/assettrack/v1/overview_service_pb";
import { renderAt } from "../testing/render";
import OverviewPage from "./OverviewPage";

function open(overview: MessageInitShape<typeof OverviewSchema>) {
  const transport = createRouterTransport(({ service }) => {
    service(OverviewService, { getOverview: () => create(OverviewSchema, overview) });
    service(EventService, { listEvents: () => ({}) });
  });
  renderAt(<OverviewPage />, "/", "/", transport);
}

function tile(name: string): HTMLElement {
  const found = screen.getByText(name).closest("li");
  if (!found) {
    throw new Error(`${name} is no tile`);
  }
  return found;
}

test("a part that does not answer is named, and nothing is claimed about it", async () => {
  open({ unavailable: [{ part: "processor http://p", reason: "connection refused" }] });
  expect(await screen.findByText("processor http://p")).toBeTruthy();
  for (const name of ["Healthy nodes", "Events in the last hour", "Dead letters"]) {
    expect(within(tile(name)).getByText("–")).toBeTruthy();
  }
  expect(screen.getByText(/, in part/)).toBeTruthy();
  expect(screen.getByText("Cannot be told at the moment.")).toBeTruthy();
  expect(tile("Collectors consuming").className).toContain("is-bad");
});

test("every number leads to what it counts", async () => {
  open({
    measureTime: timestampFromMs(Date.now()),
    kinds: [{ kind: AssetKind.PACKAGE, state: AssetState.REMOVED, count: 1_234n }],
    nodes: [
      { health: NodeHealth.HEALTHY, count: 2n },
      { health: NodeHealth.STALE, count: 1n },
    ],
  });
  const removed = await screen.findByRole("link", { name: "1,234" });
  expect(removed.getAttribute("href")).toBe("/assets?kind=PACKAGE&state=REMOVED");
  expect(within(tile("Healthy nodes")).getByText("2 of 3")).toBeTruthy();
  const stale = screen.getByRole("link", { name: "1 STALE" });
  expect(stale.getAttribute("href")).toBe("/nodes?health=STALE");
});
