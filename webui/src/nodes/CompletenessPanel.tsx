import { ProblemBox } from "../errors/ProblemBox";
import { kindName } from "../format/names";
import { count } from "../format/number";
import { Age } from "../format/Time";
import {
  Completeness,
  type KindCompleteness,
  type Node,
  NodeHealth,
} from "../gen/assettrack/v1/node_service_pb";
import { CompletenessBadge } from "../shell/Badge";
import { useRequestScan } from "./queries";

/** Whether all that the agent knows is recorded, and a scan for who doubts it. */
export function CompletenessPanel({ node }: { node: Node }) {
  const doubtful = node.kinds.filter(({ completeness }) => completeness !== Completeness.COMPLETE);
  return (
    <section className="panel" aria-label="Completeness">
      <h2>
        Completeness <CompletenessBadge completeness={node.completeness} />
      </h2>
      <dl className="facts">
        <div>
          <dt>Complete as of</dt>
          <dd>
            <Age at={node.completeTime} absent="not known" />
          </dd>
        </div>
        {doubtful.map((kind) => (
          <div key={kind.kind}>
            <dt>{kindName(kind.kind)}</dt>
            <dd>
              <Doubt kind={kind} />
            </dd>
          </div>
        ))}
      </dl>
      {node.health !== NodeHealth.RETIRED && <Scan node={node} />}
    </section>
  );
}

function Doubt({ kind }: { kind: KindCompleteness }) {
  return (
    <>
      <CompletenessBadge completeness={kind.completeness} /> {count(kind.count)} here,{" "}
      {count(kind.reportedCount)} by the agent
      <span className="faint">
        {" "}
        · complete as of <Age at={kind.completeTime} absent="never" />
        {kind.resyncTime && (
          <>
            {" "}
            · full listing asked for <Age at={kind.resyncTime} />
            {kind.resyncCount > 1 && ` (${kind.resyncCount} times)`}
          </>
        )}
        {kind.deadLetters > 0n && ` · ${count(kind.deadLetters)} dead letters since`}
      </span>
    </>
  );
}

function Scan({ node }: { node: Node }) {
  const scan = useRequestScan();
  return (
    <>
      {scan.isError && <ProblemBox error={scan.error} what="No scan was asked for" />}
      <p>
        <button
          type="button"
          aria-disabled={scan.isPending}
          onClick={() => scan.isPending || scan.mutate(node.name)}
        >
          Scan now
        </button>{" "}
        <output className="faint">
          {scan.isSuccess && "Asked for; what changed arrives within seconds."}
        </output>
      </p>
    </>
  );
}
