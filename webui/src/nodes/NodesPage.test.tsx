import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import { Completeness, NodeHealth, NodeService } from "../gen/assettrack/v1/node_service_pb";
import { renderAt } from "../testing/render";
import NodesPage from "./NodesPage";

test("a failed refresh says so, keeps the old rows, and heals", async () => {
  const user = userEvent.setup();
  let failing = false;
  const transport = createRouterTransport(({ service }) => {
    service(NodeService, {
      listNodes: () => {
        if (failing) {
          throw new ConnectError("the processor is away", Code.Unavailable, {
            "x-request-id": "request-7",
          });
        }
        const [name, displayName, health] = ["nodes/1", "node-1", NodeHealth.HEALTHY];
        const completeness = Completeness.COMPLETE;
        const nodes = [{ name, displayName, health, completeness, identityConflict: true }];
        return { nodes };
      },
    });
  });
  renderAt(<NodesPage />, "/nodes", "/nodes", transport);
  await screen.findByRole("link", { name: "node-1" });
  expect(screen.getByText(/^Updated/)).toBeTruthy();
  expect(screen.getByText("IDENTITY CONFLICT")).toBeTruthy();
  expect(screen.getByText("COMPLETE")).toBeTruthy();

  failing = true;
  await user.click(screen.getByRole("button", { name: "Refresh" }));
  await screen.findByText(/Not refreshed since/);
  expect(screen.getByText(/the processor is away/)).toBeTruthy();
  expect(screen.getByText("request-7")).toBeTruthy();
  expect(screen.getByText(/^Refresh failed/)).toBeTruthy();
  expect(screen.getByRole("link", { name: "node-1" }).closest(".is-old")).toBeTruthy();

  failing = false;
  await user.click(screen.getByRole("button", { name: "Refresh" }));
  await screen.findByText(/^Updated/);
  expect(screen.queryByText(/Not refreshed since/)).toBeNull();
});
