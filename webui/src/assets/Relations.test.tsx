import { createRouterTransport } from "@connectrpc/connect";
import { screen, waitFor } from "@testing-library/react";
import { expect, test } from "vitest";
import { RelationType } from "../gen/assettrack/v1/details_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { bash } from "../testing/inventory";
import { renderAt } from "../testing/render";
import { Relations } from "./Relations";

function open(asset: ReturnType<typeof bash>) {
  renderAt(<Relations asset={asset} />, "/", "/", createRouterTransport(() => {}));
}

test("each related asset is a link, by the name that follows from its key", async () => {
  open(
    bash({
      node: "nodes/1368ea7e-dfe3-5393-9a69-91e01a346240",
      naturalKey: 'a"*b',
      details: {
        details: { case: "listeningSocket", value: { port: 22 } },
        relations: [
          {
            type: RelationType.INSTALLED_BY,
            kind: AssetKind.PACKAGE,
            naturalKey: "dpkg/openssl:amd64",
          },
        ],
      },
    }),
  );
  const link = await screen.findByRole("link", { name: "dpkg/openssl:amd64" });
  expect(screen.getByText("Installed by")).toBeTruthy();
  await waitFor(() =>
    expect(link.getAttribute("href")).toBe("/assets/47555973-505e-5a51-a067-6b0b36c361d5"),
  );
  const others = screen.getByRole("link", { name: "Assets that relate to this one" });
  const params = new URLSearchParams(others.getAttribute("href")?.split("?")[1]);
  expect(params.get("node")).toBe("1368ea7e-dfe3-5393-9a69-91e01a346240");
  expect(params.get("q")).toBe(
    String.raw`details.relations.kind:PACKAGE AND details.relations.natural_key:"a\"\*b"`,
  );
});

test("an asset that a person recorded has none, and says nothing of them", () => {
  open(bash({ node: "" }));
  expect(screen.queryByRole("region", { name: "Relations" })).toBeNull();
});
