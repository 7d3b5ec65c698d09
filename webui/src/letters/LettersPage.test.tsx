import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { screen, waitFor, within } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import {
  type DeadLetterFilter,
  DeadLetterReason,
  DeadLetterSchema,
  DeadLetterService,
  type DeleteDeadLettersRequest,
  type ReplayDeadLettersRequest,
  type ReplayDeadLettersResponseSchema,
} from "../gen/assettrack/v1/dead_letter_service_pb";
import { renderAt } from "../testing/render";
import LettersPage from "./LettersPage";

const { INVALID_FIELD, UNDECODABLE } = DeadLetterReason;

/** Three letters, replayed as a test says. */
class LetterServer {
  readonly filters: (DeadLetterFilter | undefined)[] = [];
  readonly replays: ReplayDeadLettersRequest[] = [];
  readonly deletions: DeleteDeadLettersRequest[] = [];
  /** Whether the caller of the replay went away. */
  left = false;
  letters = [
    { name: "deadLetters/1", reason: INVALID_FIELD, detail: "observations[0].kind: 99 is not known" },
    { name: "deadLetters/2", reason: INVALID_FIELD, detail: "sequence: is 0", nodeDisplayName: "node-1", node: "nodes/1" },
    { name: "deadLetters/3", reason: UNDECODABLE, detail: "body: junk", node: "nodes/9" },
  ].map((letter) => create(DeadLetterSchema, { count: 2n, ...letter }));

  constructor(
    private readonly told: MessageInitShape<typeof ReplayDeadLettersResponseSchema>[] = [],
    private readonly end: "ends" | "hangs" | "fails" = "ends",
  ) {}

  transport() {
    return createRouterTransport(({ service }) => {
      service(DeadLetterService, {
        listDeadLetters: ({ filter }) => {
          this.filters.push(filter);
          const reasons = filter?.reasons ?? [];
          const found = this.letters.filter(
            ({ reason }) => reasons.length === 0 || reasons.includes(reason),
          );
          const counts = [UNDECODABLE, INVALID_FIELD].map((reason) => ({
            reason,
            count: BigInt(found.filter((letter) => letter.reason === reason).length),
          }));
          return { deadLetters: found, counts: counts.filter(({ count }) => count > 0n) };
        },
        replayDeadLetters: (request, context) => this.#replay(request, context.signal),
        deleteDeadLetters: (request) => {
          this.deletions.push(request);
          const before = this.letters.length;
          this.letters = this.letters.filter(
            ({ reason }) => !request.all && !request.filter?.reasons.includes(reason),
          );
          return { deletedCount: BigInt(before - this.letters.length) };
        },
      });
    });
  }

  async *#replay(request: ReplayDeadLettersRequest, signal: AbortSignal) {
    this.replays.push(request);
    yield* this.told;
    if (this.end === "fails") {
      throw new ConnectError("the database cannot be reached", Code.Unavailable);
    }
    if (this.end === "hangs") {
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
      this.left = true;
    }
  }
}

function open(server: LetterServer, url = "/deadLetters") {
  return { user: userEvent.setup(), ...renderAt(<LettersPage />, "/deadLetters", url, server.transport()) };
}

test("letters are shown with their reasons, counted, and picked by reason", async () => {
  const server = new LetterServer();
  const { user, url } = open(server);
  await screen.findByRole("link", { name: "sequence: is 0" });
  expect(screen.getByRole("button", { name: "all 3" }).getAttribute("aria-pressed")).toBe("true");
  expect(screen.getByText("3 of 3 shown; that is all")).toBeTruthy();
  expect(screen.getByRole("link", { name: "node-1" }).getAttribute("href")).toBe("/nodes/1");
  expect(screen.queryByRole("link", { name: "9" }), "an unknown node is no link").toBeNull();

  await user.click(screen.getByRole("button", { name: "UNDECODABLE 1" }));
  await waitFor(() => expect(screen.queryByRole("link", { name: "sequence: is 0" })).toBeNull());
  expect(screen.getByRole("link", { name: "body: junk" })).toBeTruthy();
  expect(url()).toBe("/deadLetters?reason=UNDECODABLE");
  expect(server.filters.at(-1)?.reasons).toEqual([UNDECODABLE]);
  expect(screen.getByRole("button", { name: "INVALID_FIELD 2" }), "the others stay to be picked").toBeTruthy();
});

test("nothing is replayed before a yes; then it says how it went", async () => {
  const server = new LetterServer([
    { total: 3n },
    { total: 3n, committed: 1n, duplicates: 1n, stillDead: 1n, done: true },
  ]);
  const { user } = open(server);
  await user.click(await screen.findByRole("button", { name: "Replay…" }));
  expect(screen.getByText(/Put all 3 dead letters through ingest again/)).toBeTruthy();
  await user.click(screen.getByRole("button", { name: "Cancel" }));
  expect(server.replays).toEqual([]);
  await user.click(screen.getByRole("button", { name: "Replay…" }));
  await user.click(screen.getByRole("button", { name: "Replay" }));
  await screen.findByText(
    "Replayed 3 of 3: 1 applied, 1 had come another way, 1 still cannot be applied, 0 were gone.",
  );
  expect(server.replays.map(({ all, names, filter }) => [all, names, filter])).toEqual([
    [true, [], undefined],
  ]);
});

test("a replay can be stopped, and one that breaks off is no success", async () => {
  const hanging = new LetterServer([{ total: 3n, committed: 1n }], "hangs");
  const { user } = open(hanging);
  await user.click(await screen.findByRole("button", { name: "Replay…" }));
  await user.click(screen.getByRole("button", { name: "Replay" }));
  await screen.findByText(/^Replayed 1 of 3/);
  await user.click(screen.getByRole("button", { name: "Stop" }));
  await screen.findByText(/^Stopped after 1 of 3/);
  await waitFor(() => expect(hanging.left).toBe(true));
});

test.each([
  ["fails", "the database cannot be reached"],
  ["ends", /ended it before its end/],
] as const)("a replay that %s too early says so", async (end, text) => {
  const { user } = open(new LetterServer([{ total: 3n, committed: 1n }], end));
  await user.click(await screen.findByRole("button", { name: "Replay…" }));
  await user.click(screen.getByRole("button", { name: "Replay" }));
  const problem = await screen.findByRole("alert");
  expect(within(problem).getByText("Not all was replayed")).toBeTruthy();
  expect(within(problem).getByText(text)).toBeTruthy();
});

test("those of a reason are deleted after a yes, and no others", async () => {
  const server = new LetterServer();
  const { user } = open(server, "/deadLetters?reason=INVALID_FIELD");
  await user.click(await screen.findByRole("button", { name: "Delete…" }));
  expect(screen.getByText(/^Delete the 2 dead letters of reason INVALID_FIELD\?/)).toBeTruthy();
  expect(server.deletions).toEqual([]);
  await user.click(screen.getByRole("button", { name: "Delete" }));
  await screen.findByText("2 deleted.");
  await screen.findByText("None is like this.");
  expect(server.deletions).toMatchObject([
    { all: false, filter: { reasons: [INVALID_FIELD] }, validateOnly: false },
  ]);
});
