import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import {
  DeadLetterReason,
  DeadLetterSchema,
  DeadLetterService,
  type DeleteDeadLettersRequest,
} from "../gen/assettrack/v1/dead_letter_service_pb";
import { renderAt } from "../testing/render";
import LetterPage, { hexOf } from "./LetterPage";

function open(letter: MessageInitShape<typeof DeadLetterSchema> | undefined) {
  const deletions: DeleteDeadLettersRequest[] = [];
  const transport = createRouterTransport(({ service }) => {
    service(DeadLetterService, {
      getDeadLetter: ({ name }) => {
        if (!letter) {
          throw new ConnectError("none", Code.NotFound);
        }
        return create(DeadLetterSchema, { reason: DeadLetterReason.INVALID_FIELD, ...letter, name });
      },
      deleteDeadLetters: (request) => {
        deletions.push(request);
        return { deletedCount: 1n };
      },
    });
  });
  const shown = renderAt(<LetterPage />, "/deadLetters/:id", "/deadLetters/7", transport);
  return { user: userEvent.setup(), deletions, ...shown };
}

test("what was decoded is shown, with headers and detail", async () => {
  open({
    detail: "observations[0].natural_key: has a NUL",
    headers: { routing_key: "shard.1.n" },
    batch: { schemaVersion: 7, sequence: 3n },
    body: new Uint8Array([1]),
    sequence: 3n,
  });
  expect(await screen.findByText("observations[0].natural_key: has a NUL")).toBeTruthy();
  expect(screen.getByText(/"schemaVersion": 7/)).toBeTruthy();
  expect(screen.getByText("shard.1.n")).toBeTruthy();
  expect(screen.queryByText(/cannot be decoded/)).toBeNull();
});

test("what cannot be decoded is shown as bytes, what JSON has no form for as such", async () => {
  open({ detail: "body: junk", body: new Uint8Array(600).fill(0xab) });
  const bytes = await screen.findByText(/^ab ab/);
  expect(bytes.textContent?.match(/ab/g)?.length).toBe(512);
  expect(screen.getByText(/first 512 bytes/)).toBeTruthy();
  expect(hexOf(new Uint8Array(17))).toBe(`${"00 ".repeat(15)}00\n00`);
});

test("a time that JSON has no form for breaks nothing", async () => {
  open({ detail: "a time", batch: { observations: [{ observeTime: { seconds: 300_000_000_000n, nanos: 0 } }] } });
  expect(await screen.findByText(/^It has no form as JSON: /)).toBeTruthy();
});

test("after its deletion the list is shown; one that is gone is named", async () => {
  const { user, deletions, url } = open({ detail: "x" });
  await user.click(await screen.findByRole("button", { name: "Delete…" }));
  await user.click(screen.getByRole("button", { name: "Delete" }));
  await screen.findByText("another page");
  expect(url()).toBe("/deadLetters");
  expect(deletions.map(({ all, names, filter }) => [all, names, filter])).toEqual([
    [false, ["deadLetters/7"], undefined],
  ]);
});

test("one that is gone is named", async () => {
  open(undefined);
  expect(await screen.findByText("deadLetters/7")).toBeTruthy();
  expect(screen.getByText(/it was applied or deleted/)).toBeTruthy();
});
