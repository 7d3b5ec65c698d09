import { createRouterTransport } from "@connectrpc/connect";
import { screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, test } from "vitest";
import { paramsOfSearch, searchOfParams } from "../assets/search";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { renderAt } from "../testing/render";
import { useSearchInUrl } from "./useSearchInUrl";

function TwoAtOnce() {
  const [search, change] = useSearchInUrl(searchOfParams, paramsOfSearch);
  const onClick = () => {
    change({ kind: AssetKind.PACKAGE });
    change({ text: "bash" }, { replace: true });
  };
  return (
    <button type="button" onClick={onClick}>
      {search.text || "nothing"} {search.kind}
    </button>
  );
}

test("of two changes in a row neither is lost, and the rest stays", async () => {
  const user = userEvent.setup();
  const { url } = renderAt(<TwoAtOnce />, "/", "/?state=ACTIVE", createRouterTransport(() => {}));
  await user.click(screen.getByRole("button", { name: "nothing" }));
  await screen.findByRole("button", { name: `bash ${AssetKind.PACKAGE}` });
  expect(url()).toBe("/?q=bash&kind=PACKAGE&state=ACTIVE");
});
