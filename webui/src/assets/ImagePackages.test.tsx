import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { screen, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import { ImageContentSource } from "../gen/assettrack/v1/event_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import {
  ImageService,
  type ListImagePackagesRequest,
  ListImagePackagesResponseSchema,
} from "../gen/assettrack/v1/image_service_pb";
import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb";
import { bash } from "../testing/inventory";
import { renderAt } from "../testing/render";
import { ImagePackages } from "./ImagePackages";

const IMAGE = bash({ kind: AssetKind.CONTAINER_IMAGE, displayName: "nginx:1.27" });

function open(answer: (request: ListImagePackagesRequest) => object) {
  const transport = createRouterTransport(({ service }) => {
    service(ImageService, {
      listImagePackages: (request) => create(ListImagePackagesResponseSchema, answer(request)),
    });
  });
  renderAt(<ImagePackages asset={IMAGE} />, "/", "/", transport);
}

function refused(reason: string, code = Code.FailedPrecondition) {
  return () => {
    throw new ConnectError("told to", code, undefined, [
      { desc: ErrorInfoSchema, value: { reason, domain: "assettrack" } },
    ]);
  };
}

test("packages come page by page, with where and when they were read", async () => {
  const user = userEvent.setup();
  const asked: string[] = [];
  open((request) => {
    asked.push(request.parent);
    const about = {
      totalSize: 3n,
      source: ImageContentSource.CONTAINER,
      completeTime: timestampFromDate(new Date("2026-11-23T12:00:00Z")),
    };
    const twice = { package: "zlib", version: "1.3", manager: "apk" };
    return request.pageToken === ""
      ? { ...about, packages: [{ package: "musl", version: "1.2" }], nextPageToken: "more" }
      : { ...about, packages: [twice, twice] };
  });
  expect(await screen.findByText("1 of 3 shown; there are more")).toBeTruthy();
  expect(screen.getByText(/Read in a running container/).textContent).toMatch(/Known since .*2026/);
  await user.click(screen.getByRole("button", { name: "Load more" }));
  expect(await screen.findByText("3 of 3 shown; that is all")).toBeTruthy();
  const rows = within(screen.getByRole("table")).getAllByRole("row");
  expect(rows.map((row) => row.querySelector("th[scope=row]")?.textContent)).toEqual([
    undefined,
    "musl",
    "zlib",
    "zlib",
  ]);
  expect(asked).toEqual([IMAGE.name, IMAGE.name]);
});

test("an image without packages is one that was read", async () => {
  open(() => ({ source: ImageContentSource.LAYERS }));
  expect(await screen.findByText("There are no packages in this image.")).toBeTruthy();
  expect(screen.getByText(/Read in the layers/)).toBeTruthy();
});

test.each([
  ["CONTENTS_NOT_READ", /No agent has read the packages/],
  ["CONTENTS_INCOMPLETE", /not every part of it has arrived/],
])("%s is no failure", async (reason, text) => {
  open(refused(reason));
  expect(await screen.findByText(text)).toBeTruthy();
  expect(screen.queryByRole("alert")).toBeNull();
});

test("a failure says what could not be read", async () => {
  open(refused("DATABASE_UNAVAILABLE", Code.Internal));
  expect(await screen.findByText(/packages in this image could not be read/)).toBeTruthy();
});
