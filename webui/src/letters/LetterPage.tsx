import { toJsonString } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { Link, useNavigate, useParams } from "react-router";
import { curl, grpcurl } from "../calls/commands";
import { CopyCalls } from "../calls/CopyCalls";
import { isCode, problemOf } from "../errors/problem";
import { Moment } from "../format/Time";
import { bytes, count } from "../format/number";
import { FreshnessNote } from "../freshness/FreshnessNote";
import { QueryView } from "../freshness/QueryView";
import type { DeadLetter } from "../gen/assettrack/v1/dead_letter_service_pb";
import { type EventBatch, EventBatchSchema } from "../gen/assettrack/v1/event_pb";
import { ReasonBadge } from "../shell/Badge";
import { Crumb } from "../shell/Crumb";
import { Page } from "../shell/Page";
import { LetterActions } from "./LetterActions";
import { LetterNode } from "./LettersPage";
import { useLetter } from "./queries";

/** Bytes of a body that are shown; the call below gives all. */
const SHOWN_BYTES = 512;

export default function LetterPage() {
  const { id = "" } = useParams();
  const name = `deadLetters/${id}`;
  const query = useLetter(name);
  const navigate = useNavigate();
  if (isCode(query.error, Code.NotFound)) {
    return (
      <Page title="No such dead letter">
        <p className="empty">
          There is no dead letter <code>{name}</code> any more: it was applied or deleted.{" "}
          <Link to="/deadLetters">Go to the dead letters</Link>
        </p>
      </Page>
    );
  }
  return (
    <Page
      title="Dead letter"
      heading={
        <>
          <Crumb to="/deadLetters">Dead letters</Crumb>
          {query.data ? <ReasonBadge reason={query.data.reason} /> : id}
        </>
      }
      aside={<FreshnessNote query={query} everyMs={0} />}
    >
      <QueryView query={query} what="The dead letter could not be read">
        {(letter) => (
          <>
            <Facts letter={letter} />
            <LetterActions
              selection={{ names: [name] }}
              meant="this dead letter"
              onDeleted={() => void navigate("/deadLetters")}
            />
            <Content letter={letter} />
            <CopyCalls
              commands={[
                curl(window.location.origin, `/v1/${name}`, {}),
                grpcurl(window.location.origin, "DeadLetterService/GetDeadLetter", { name }),
              ]}
            />
          </>
        )}
      </QueryView>
    </Page>
  );
}

function Facts({ letter }: { letter: DeadLetter }) {
  return (
    <section className="panel" aria-label="What is known of it">
      <p>
        <strong>{letter.detail}</strong>
      </p>
      <dl className="facts">
        <div>
          <dt>Node</dt>
          <dd>
            <LetterNode letter={letter} />
          </dd>
        </div>
        <div>
          <dt>First came</dt>
          <dd>
            <Moment at={letter.createTime} />
          </dd>
        </div>
        <div>
          <dt title="Or was last replayed in vain">Last came</dt>
          <dd>
            <Moment at={letter.lastTime} />
          </dd>
        </div>
        <div>
          <dt>Times</dt>
          <dd>{count(letter.count)}</dd>
        </div>
        <div>
          <dt>Queue</dt>
          <dd>{letter.queue}</dd>
        </div>
        <div>
          <dt>Message</dt>
          <dd>{letter.messageId || <span className="faint">–</span>}</dd>
        </div>
        <div>
          <dt>Stream</dt>
          <dd>{letter.stream || <span className="faint">not told</span>}</dd>
        </div>
        <div>
          <dt>Sequence</dt>
          <dd>
            {letter.sequence > 0n ? count(letter.sequence) : <span className="faint">not told</span>}
          </dd>
        </div>
        <div>
          <dt>Size</dt>
          <dd title={`${count(letter.bodySizeBytes)} B`}>{bytes(letter.bodySizeBytes)}</dd>
        </div>
      </dl>
    </section>
  );
}

function Content({ letter }: { letter: DeadLetter }) {
  const headers = Object.entries(letter.headers).toSorted(([one], [other]) => (one < other ? -1 : 1));
  return (
    <>
      {headers.length > 0 && (
        <section className="panel" aria-label="Headers and properties">
          <h2>Headers and properties</h2>
          <dl className="facts">
            {headers.map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ))}
          </dl>
        </section>
      )}
      <section className="panel" aria-label="Content">
        <h2>Content</h2>
        {letter.batch ? (
          <pre className="content">{batchText(letter.batch)}</pre>
        ) : (
          <>
            <p className="faint">
              It cannot be decoded.{" "}
              {letter.body.length > SHOWN_BYTES
                ? `These are the first ${count(SHOWN_BYTES)} bytes:`
                : "These are its bytes:"}
            </p>
            <pre className="content">{hexOf(letter.body.subarray(0, SHOWN_BYTES))}</pre>
          </>
        )}
      </section>
    </>
  );
}

/** A batch as ProtoJSON; it may hold what that has no form for. */
function batchText(batch: EventBatch): string {
  try {
    return toJsonString(EventBatchSchema, batch, { prettySpaces: 2 });
  } catch (error) {
    return `It has no form as JSON: ${problemOf(error).message}`;
  }
}

/** Sixteen bytes a line. */
export function hexOf(body: Uint8Array): string {
  const lines: string[] = [];
  for (let start = 0; start < body.length; start += 16) {
    const line = body.subarray(start, start + 16);
    lines.push(Array.from(line, (byte) => byte.toString(16).padStart(2, "0")).join(" "));
  }
  return lines.join("\n");
}
