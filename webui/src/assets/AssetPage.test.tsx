import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import { bash, OneAssetServer } from "../testing/inventory";
import { renderAt } from "../testing/render";
import AssetPage from "./AssetPage";
import { assetKey } from "./queries";

function open(server: OneAssetServer) {
  return renderAt(<AssetPage />, "/assets/:id", `/${server.asset.name}`, server.transport());
}

test("shows what was observed, and each revision with what it changed", async () => {
  const server = new OneAssetServer(bash());
  server.edit({ owner: "ops" });
  open(server);

  expect(await screen.findByText("5.2.15-2+b7")).toBeTruthy();
  const history = await screen.findByRole("region", { name: "Revisions" });
  expect(await within(history).findByText("managed.owner")).toBeTruthy();
  expect(within(history).getAllByRole("listitem")).toHaveLength(2);
  // An agent still sees it: there is nothing to delete.
  expect(screen.queryByRole("button", { name: "Delete record…" })).toBeNull();
});

test("an edit sends only what changed, with the etag it was based on", async () => {
  const user = userEvent.setup();
  const server = new OneAssetServer(bash({ managed: { location: "dc1" } }));
  open(server);

  await user.click(await screen.findByRole("button", { name: "Edit" }));
  await user.type(screen.getByLabelText("Owner"), "platform team");
  await user.click(screen.getByRole("button", { name: "Save" }));

  await screen.findByText("platform team");
  expect(server.updates).toHaveLength(1);
  expect(server.updates[0]?.updateMask?.paths).toEqual(["managed.owner"]);
  expect(server.updates[0]?.asset?.etag).toBe("m0");
  expect(server.asset.managed?.location).toBe("dc1");
});

test("a clash shows both sides, saves nothing, and goes on from their version", async () => {
  const user = userEvent.setup();
  const server = new OneAssetServer(bash({ managed: { owner: "ops" } }));
  open(server);

  await user.click(await screen.findByRole("button", { name: "Edit" }));
  const owner = screen.getByLabelText("Owner");
  await user.clear(owner);
  await user.type(owner, "platform");
  server.edit({ owner: "security", location: "dc3" });
  await user.click(screen.getByRole("button", { name: "Save" }));

  await screen.findByText(/Somebody else changed this record/);
  expect(screen.getByRole("radio", { name: "Theirs: security" })).toBeTruthy();
  expect(server.asset.managed?.owner).toBe("security");
  const goOn = screen.getByRole<HTMLButtonElement>("button", { name: "Continue on their version" });
  expect(goOn.disabled).toBe(true);

  await user.click(screen.getByRole("radio", { name: /^Yours/ }));
  await user.click(goOn);
  expect(screen.getByLabelText<HTMLInputElement>("Location").value).toBe("dc3");
  await user.click(screen.getByRole("button", { name: "Save" }));

  await waitFor(() => expect(server.asset.managed?.owner).toBe("platform"));
  expect(server.asset.managed?.location).toBe("dc3");
  expect(server.updates.at(-1)?.updateMask?.paths).toEqual(["managed.owner"]);
});

test("an edit by others shows up while the form is still open", async () => {
  const user = userEvent.setup();
  const server = new OneAssetServer(bash());
  const { cache } = open(server);

  await user.click(await screen.findByRole("button", { name: "Edit" }));
  await user.type(screen.getByLabelText("Notes"), "mine");
  server.edit({ owner: "security" });
  await cache.invalidateQueries({ queryKey: assetKey(server.asset.name) });

  await screen.findByText(/Somebody else changed this record/);
  await user.click(screen.getByRole("button", { name: "Continue on their version" }));
  expect(screen.getByLabelText<HTMLInputElement>("Owner").value).toBe("security");
  expect(screen.getByLabelText<HTMLTextAreaElement>("Notes").value).toBe("mine");
});
