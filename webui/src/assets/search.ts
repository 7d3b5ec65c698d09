import { AssetState } from "../gen/assettrack/v1/asset_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { kindName, kindOf, stateName } from "../format/names";
import { filterOfText, narrowed, quote } from "../search/words";

/** What the asset list shows; all of it stands in the URL. */
export interface AssetSearch {
  /** As typed: words or a filter. */
  text: string;
  kind: AssetKind | undefined;
  state: AssetState | undefined;
  /** UUID of a node; empty for all. */
  node: string;
  /** Whether deleted records are listed too. */
  deleted: boolean;
}

/** States that the list can be narrowed to. */
export const STATES: readonly AssetState[] = [AssetState.ACTIVE, AssetState.REMOVED];

/** Reads the URL; what it does not know counts as absent. */
export function searchOfParams(params: URLSearchParams): AssetSearch {
  return {
    text: params.get("q") ?? "",
    kind: kindOf(params.get("kind")),
    state: STATES.find((state) => stateName(state) === params.get("state")),
    node: params.get("node") ?? "",
    deleted: params.get("deleted") === "1",
  };
}

/** Writes the URL; absent parts are left out. */
export function paramsOfSearch(search: Partial<AssetSearch>): URLSearchParams {
  const params = new URLSearchParams();
  if (search.text) {
    params.set("q", search.text);
  }
  if (search.kind) {
    params.set("kind", kindName(search.kind));
  }
  if (search.state) {
    params.set("state", stateName(search.state));
  }
  if (search.node) {
    params.set("node", search.node);
  }
  if (search.deleted) {
    params.set("deleted", "1");
  }
  return params;
}

/** Where this search is shown. */
export function assetsPath(search: Partial<AssetSearch>): string {
  const query = paramsOfSearch(search).toString();
  return query ? `/assets?${query}` : "/assets";
}

/** The one filter that the server gets. */
export function filterOfSearch(search: AssetSearch): string {
  return narrowed(filterOfText(search.text), [
    search.kind ? `kind=${kindName(search.kind)}` : "",
    search.state ? `state=${stateName(search.state)}` : "",
    search.node ? `node=${quote(`nodes/${search.node}`)}` : "",
  ]);
}
