import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { Link } from "react-router";
import { assetsPath } from "../assets/search";
import { count } from "../format/number";
import { Moment } from "../format/Time";
import { AssetState } from "../gen/assettrack/v1/asset_pb";
import type { KindCount } from "../gen/assettrack/v1/overview_service_pb";
import { KindTag } from "../shell/Badge";
import { grouped } from "../format/kinds";
import { kindRows } from "./rollup";

interface Props {
  counts: readonly KindCount[];
  /** When they were counted; absent if the processor does not answer. */
  measured: Timestamp | undefined;
}

/** Assets by kind and state; every number leads to what it counts. */
export function KindPanel({ counts, measured }: Props) {
  const rows = kindRows(counts);
  const groups = grouped(rows.map(({ kind }) => kind));
  return (
    <section className="panel" aria-label="Assets by kind">
      <h2>
        Assets{" "}
        {measured && (
          <span className="faint">
            counted at <Moment at={measured} />
          </span>
        )}
      </h2>
      {rows.length === 0 ? (
        <p className="empty">{measured ? "No assets yet." : "Cannot be told at the moment."}</p>
      ) : (
        <table>
          <thead>
            <tr>
              <th scope="col">Kind</th>
              <th scope="col" className="right">
                Active
              </th>
              <th scope="col" className="right">
                Removed
              </th>
              <th scope="col" className="right" title="By people; no agent sees them">
                Recorded
              </th>
            </tr>
          </thead>
          {groups.map(({ label, kinds }) => (
          <tbody key={label}>
            <tr className="group">
              <th scope="rowgroup" colSpan={4}>
                {label}
              </th>
            </tr>
            {rows.filter(({ kind }) => kinds.includes(kind)).map(({ kind, active, removed, recorded }) => (
              <tr key={kind}>
                <th scope="row">
                  <Link to={assetsPath({ kind })}>
                    <KindTag kind={kind} />
                  </Link>
                </th>
                <td className="right num">
                  <CountLink value={active} to={assetsPath({ kind, state: AssetState.ACTIVE })} />
                </td>
                <td className="right num">
                  <CountLink value={removed} to={assetsPath({ kind, state: AssetState.REMOVED })} />
                </td>
                <td className="right num">
                  <CountLink value={recorded} to={assetsPath({ kind })} />
                </td>
              </tr>
            ))}
          </tbody>
          ))}
        </table>
      )}
    </section>
  );
}

function CountLink({ value, to }: { value: bigint; to: string }) {
  return value === 0n ? <span className="faint">0</span> : <Link to={to}>{count(value)}</Link>;
}
