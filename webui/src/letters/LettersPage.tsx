import { Link } from "react-router";
import { curl, grpcurl } from "../calls/commands";
import { CopyCalls } from "../calls/CopyCalls";
import { Age } from "../format/Time";
import { reasonName, resourceId } from "../format/names";
import { count } from "../format/number";
import { FreshnessNote } from "../freshness/FreshnessNote";
import { QueryView } from "../freshness/QueryView";
import type { DeadLetter, DeadLetterCount } from "../gen/assettrack/v1/dead_letter_service_pb";
import { useSearchInUrl } from "../search/useSearchInUrl";
import { ReasonBadge } from "../shell/Badge";
import { LoadMore } from "../shell/LoadMore";
import { Page } from "../shell/Page";
import { LetterActions } from "./LetterActions";
import { LETTERS_EVERY_MS, useLetters } from "./queries";
import {
  filterOfSearch,
  jsonOfSearch,
  type LetterSearch,
  paramsOfSearch,
  restOfSearch,
  searchOfParams,
  selectionOfSearch,
} from "./search";

export default function LettersPage() {
  const [search, change] = useSearchInUrl(searchOfParams, paramsOfSearch);
  // Of all reasons, so that each one's count can be seen and picked.
  const counted = useLetters(filterOfSearch({ ...search, reason: undefined }));
  const query = useLetters(filterOfSearch(search));
  const counts = counted.data?.pages[0]?.counts ?? [];
  const origin = window.location.origin;
  return (
    <Page
      title="Dead letters"
      aside={<FreshnessNote query={query} everyMs={LETTERS_EVERY_MS} />}
    >
      <p className="lead">
        Messages of agents that could not be applied. Each is kept with its reason and holds up
        nothing; what it said is missing until it is replayed or its agent lists everything again.
      </p>
      <Reasons counts={counts} search={search} onPick={(reason) => change({ reason })} />
      {search.node && (
        <p className="lead">
          Only of one <Link to={`/nodes/${search.node}`}>node</Link>.{" "}
          <button type="button" className="link" onClick={() => change({ node: "" })}>
            Show all
          </button>
        </p>
      )}
      <CopyCalls
        commands={[
          curl(origin, "/v1/deadLetters", restOfSearch(search)),
          grpcurl(origin, "DeadLetterService/ListDeadLetters", jsonOfSearch(search)),
        ]}
      />
      <QueryView query={query} what="The dead letters could not be read">
        {({ pages }) => {
          const letters = pages.flatMap((page) => page.deadLetters);
          const total = sumOf(pages[0]?.counts ?? []);
          return (
            <div className={query.isPlaceholderData ? "is-old" : undefined}>
              <LetterActions
                // What was asked or told of another selection must not stay.
                key={paramsOfSearch(search).toString()}
                selection={selectionOfSearch(search)}
                meant={meant(total, search)}
              />
              {letters.length === 0 ? (
                <p className="empty">
                  {search.reason || search.node ? "None is like this." : "There is none: all that came was applied."}
                </p>
              ) : (
                <>
                  <LetterTable letters={letters} />
                  <LoadMore query={query} shown={`${count(letters.length)} of ${count(total)} shown`} />
                </>
              )}
            </div>
          );
        }}
      </QueryView>
    </Page>
  );
}

function sumOf(counts: readonly DeadLetterCount[]): bigint {
  return counts.reduce((sum, one) => sum + one.count, 0n);
}

function meant(total: bigint, { reason, node }: LetterSearch): string {
  const all = reason || node ? "the" : "all";
  const of = reason ? ` of reason ${reasonName(reason)}` : "";
  return `${all} ${count(total)} dead letters${of}${node ? " of this node" : ""}`;
}

interface ReasonsProps {
  counts: readonly DeadLetterCount[];
  search: LetterSearch;
  onPick: (reason: LetterSearch["reason"]) => void;
}

/** How many there are of each reason; one can be picked. */
function Reasons({ counts, search, onPick }: ReasonsProps) {
  return (
    <div className="facets">
      <fieldset>
        <legend>Reason</legend>
        <button
          type="button"
          className="choice"
          aria-pressed={!search.reason}
          onClick={() => onPick(undefined)}
        >
          all {count(sumOf(counts))}
        </button>
        {counts.map((one) => (
          <button
            key={one.reason}
            type="button"
            className="choice"
            aria-pressed={search.reason === one.reason}
            onClick={() => onPick(one.reason)}
          >
            {reasonName(one.reason)} {count(one.count)}
          </button>
        ))}
      </fieldset>
    </div>
  );
}

function LetterTable({ letters }: { letters: readonly DeadLetter[] }) {
  return (
    <div className="table-frame">
      <table>
        <caption className="visually-hidden">Dead letters</caption>
        <thead>
          <tr>
            <th scope="col">What is wrong</th>
            <th scope="col">Reason</th>
            <th scope="col">Node</th>
            <th scope="col" className="right">
              Times
            </th>
            <th scope="col">First came</th>
            <th scope="col" title="Or was last replayed in vain">
              Last came
            </th>
            <th scope="col">Queue</th>
          </tr>
        </thead>
        <tbody>
          {letters.map((letter) => (
            <tr key={letter.name}>
              <th scope="row" className="name clip">
                <Link to={`/${letter.name}`} title={letter.detail}>
                  {letter.detail || resourceId(letter.name)}
                </Link>
              </th>
              <td>
                <ReasonBadge reason={letter.reason} />
              </td>
              <td>
                <LetterNode letter={letter} />
              </td>
              <td className="right num">{count(letter.count)}</td>
              <td>
                <Age at={letter.createTime} />
              </td>
              <td>
                <Age at={letter.lastTime} />
              </td>
              <td className="num">{letter.queue}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** The node that a letter names; a link only to one that is known. */
export function LetterNode({ letter }: { letter: DeadLetter }) {
  if (!letter.node) {
    return <span className="faint">not told</span>;
  }
  return letter.nodeDisplayName ? (
    <Link to={`/${letter.node}`}>{letter.nodeDisplayName}</Link>
  ) : (
    <span className="num">{resourceId(letter.node)}</span>
  );
}
