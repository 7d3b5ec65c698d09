import { Code } from "@connectrpc/connect";
import { Link } from "react-router";
import { curl, grpcurl } from "../calls/commands";
import { CopyCalls } from "../calls/CopyCalls";
import { isCode, problemOf } from "../errors/problem";
import { KIND_GROUPS } from "../format/kinds";
import { kindName, stateName } from "../format/names";
import { count } from "../format/number";
import { FreshnessNote } from "../freshness/FreshnessNote";
import { QueryView } from "../freshness/QueryView";
import { FilterHelp } from "../search/FilterHelp";
import { SearchBox } from "../search/SearchBox";
import { useSearchInUrl } from "../search/useSearchInUrl";
import { LoadMore } from "../shell/LoadMore";
import { Page } from "../shell/Page";
import { AssetTable } from "./AssetTable";
import { isLive, LIST_EVERY_MS, useAssets } from "./queries";
import {
  type AssetSearch,
  filterOfSearch,
  paramsOfSearch,
  searchOfParams,
  STATES,
} from "./search";

const EXAMPLES = [
  ["kind=PACKAGE AND display_name=bash", "one package on every node"],
  ['kind=PACKAGE AND details.package.version:"3.0*"', "by version"],
  ["kind=LISTENING_SOCKET AND details.listening_socket.port<1024", "privileged ports"],
  ['state=REMOVED AND update_time>"2026-11-01T00:00:00Z"', "gone since then"],
  ["managed.lifecycle=RETIRED AND state=ACTIVE", "retired, and still there"],
  ['kind=CERTIFICATE AND details.certificate.not_after_time<"2027-01-01T00:00:00Z"', "ends before"],
  ['kind=CONTAINER AND details.container.image:"*nginx*"', "containers by image"],
  ["managed.labels.env=prod", "by label"],
] as const;

export default function AssetsPage() {
  const [search, change] = useSearchInUrl(searchOfParams, paramsOfSearch);
  const filter = filterOfSearch(search);
  const query = useAssets(filter, search.deleted);
  const pages = query.data?.pages ?? [];
  const live = isLive(pages.length);

  const refused = isCode(query.error, Code.InvalidArgument) ? problemOf(query.error) : undefined;
  return (
    <Page
      title="Assets"
      aside={
        <>
          <FreshnessNote
            query={query}
            everyMs={live ? LIST_EVERY_MS : 0}
            paused={live ? undefined : "long lists refresh on request"}
          />
          <Link className="button" to="/assets/new">
            New asset
          </Link>
        </>
      }
    >
      <SearchBox
        label="Search assets by words or filter"
        placeholder="Words, or a filter such as kind=PACKAGE AND display_name=bash"
        value={search.text}
        onSearch={(text, how) => change({ text }, how)}
        refused={refused}
      />
      <Facets search={search} onChange={change} />
      <div className="helps">
        <FilterHelp examples={EXAMPLES} onPick={(text) => change({ text })} />
        <CopyCalls
          commands={[
            curl(window.location.origin, "/v1/assets", {
              filter,
              showDeleted: search.deleted ? "true" : "",
            }),
            grpcurl(window.location.origin, "AssetService/ListAssets", { filter }),
          ]}
        />
      </div>
      {!refused && (
        <QueryView query={query} what="The assets could not be read">
          {() => {
            const assets = pages.flatMap((page) => page.assets);
            if (assets.length === 0) {
              return <NothingFound filtered={filter !== ""} />;
            }
            return (
              <div className={query.isPlaceholderData ? "is-old" : undefined}>
                <AssetTable assets={assets} />
                <LoadMore query={query} shown={`${count(assets.length)} shown`} />
              </div>
            );
          }}
        </QueryView>
      )}
    </Page>
  );
}

interface FacetsProps {
  search: AssetSearch;
  onChange: (part: Partial<AssetSearch>) => void;
}

function Facets({ search, onChange }: FacetsProps) {
  return (
    <div className="facets">
      <fieldset>
        <legend>Kind</legend>
        <Choice
          text="all"
          chosen={search.kind === undefined}
          onChoose={() => onChange({ kind: undefined })}
        />
        {KIND_GROUPS.map(({ label, kinds }) => (
          <span key={label} className="choice-group">
            <span className="faint">{label}</span>
            {kinds.map((kind) => (
              <Choice
                key={kind}
                text={kindName(kind)}
                chosen={search.kind === kind}
                onChoose={() => onChange({ kind })}
              />
            ))}
          </span>
        ))}
      </fieldset>
      <fieldset>
        <legend>State</legend>
        <Choice
          text="all"
          chosen={search.state === undefined}
          onChoose={() => onChange({ state: undefined })}
        />
        {STATES.map((state) => (
          <Choice
            key={state}
            text={stateName(state)}
            chosen={search.state === state}
            onChoose={() => onChange({ state })}
          />
        ))}
      </fieldset>
      {search.node && (
        <fieldset>
          <legend>Node</legend>
          <Link to={`/nodes/${search.node}`}>
            <code>{search.node.slice(0, 8)}…</code>
          </Link>
          <button type="button" className="link" onClick={() => onChange({ node: "" })}>
            all nodes
          </button>
        </fieldset>
      )}
      <label className="check">
        <input
          type="checkbox"
          checked={search.deleted}
          onChange={(event) => onChange({ deleted: event.target.checked })}
        />
        Deleted records too
      </label>
    </div>
  );
}

interface ChoiceProps {
  text: string;
  chosen: boolean;
  onChoose: () => void;
}

function Choice({ text, chosen, onChoose }: ChoiceProps) {
  return (
    <button type="button" className="choice" aria-pressed={chosen} onClick={onChoose}>
      {text}
    </button>
  );
}

function NothingFound({ filtered }: { filtered: boolean }) {
  if (!filtered) {
    return (
      <p className="empty">
        The inventory is empty: no agent has reported yet, and nobody has recorded anything.
      </p>
    );
  }
  return (
    <p className="empty">
      Nothing matches.{" "}
      <Link to="/assets">Show all assets</Link>
    </p>
  );
}
