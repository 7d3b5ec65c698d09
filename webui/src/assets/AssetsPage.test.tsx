import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { screen, waitFor } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import { AssetService } from "../gen/assettrack/v1/asset_service_pb";
import { bash, OneAssetServer } from "../testing/inventory";
import { renderAt } from "../testing/render";
import AssetsPage from "./AssetsPage";

test("the search in the URL is what the server is asked", async () => {
  const server = new OneAssetServer(bash());
  renderAt(<AssetsPage />, "/assets", "/assets?q=bash&kind=PACKAGE", server.transport());
  expect(await screen.findByRole("link", { name: "bash" })).toBeTruthy();
  expect(server.listed[0]?.filter).toBe("bash AND kind=PACKAGE");
});

test("words are looked for while they are typed, and stand in the URL", async () => {
  const user = userEvent.setup();
  const server = new OneAssetServer(bash());
  const { url } = renderAt(<AssetsPage />, "/assets", "/assets", server.transport());
  await user.type(await screen.findByRole("searchbox"), "openssl:amd64");
  await waitFor(() => expect(url()).toBe("/assets?q=openssl%3Aamd64"));
  await waitFor(() => expect(server.listed.at(-1)?.filter).toBe('"openssl:amd64"'));
});

test("a filter waits for Enter, and its error stands under the box", async () => {
  const user = userEvent.setup();
  const server = new OneAssetServer(bash());
  renderAt(<AssetsPage />, "/assets", "/assets", server.transport());
  const box = await screen.findByRole("searchbox");
  await user.type(box, "knd=PACKAGE");
  expect(screen.getByText(/press Enter/)).toBeTruthy();
  expect(server.listed.some(({ filter }) => filter.includes("knd"))).toBe(false);

  await user.keyboard("{Enter}");
  const refusal = await screen.findByText("`knd` is no field; did you mean `kind`?");
  expect(refusal.getAttribute("role")).toBe("alert");
  expect(box.getAttribute("aria-invalid")).toBe("true");
  // Rows of another search would pass for its answer.
  expect(screen.queryByRole("link", { name: "bash" })).toBeNull();
});

test("the next page comes on request, and its failure keeps the first", async () => {
  const user = userEvent.setup();
  let failing = true;
  const transport = createRouterTransport(({ service }) => {
    service(AssetService, {
      listAssets: ({ pageToken }) => {
        if (pageToken === "") {
          return { assets: [bash()], nextPageToken: "two" };
        }
        if (failing) {
          throw new ConnectError("the processor is away", Code.Unavailable);
        }
        return { assets: [bash({ name: "assets/2", displayName: "zsh" })] };
      },
    });
  });
  renderAt(<AssetsPage />, "/assets", "/assets", transport);
  await user.click(await screen.findByRole("button", { name: "Load more" }));
  expect(await screen.findByText("the processor is away")).toBeTruthy();
  expect(screen.getByRole("link", { name: "bash" })).toBeTruthy();
  expect(screen.queryByText(/Not refreshed since/)).toBeNull();

  failing = false;
  await user.click(screen.getByRole("button", { name: "Load more" }));
  expect(await screen.findByRole("link", { name: "zsh" })).toBeTruthy();
  expect(screen.getByText(/that is all/)).toBeTruthy();
});
