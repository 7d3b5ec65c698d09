import { Link } from "react-router";
import { Age } from "../format/Time";
import { lifecycleName, resourceId } from "../format/names";
import { type Asset, Lifecycle } from "../gen/assettrack/v1/asset_pb";
import { KindTag, StateBadge } from "../shell/Badge";
import { summaryOf } from "./summary";

/** Assets in rows. */
export function AssetTable({ assets }: { assets: readonly Asset[] }) {
  return (
    <div className="table-frame">
      <table>
        <caption className="visually-hidden">Assets</caption>
        <thead>
          <tr>
            <th scope="col">Name</th>
            <th scope="col">Kind</th>
            <th scope="col">Details</th>
            <th scope="col">State</th>
            <th scope="col">Node</th>
            <th scope="col">Owner</th>
            <th scope="col">Changed</th>
          </tr>
        </thead>
        <tbody>
          {assets.map((asset) => (
            <tr key={asset.name}>
              <th scope="row" className="name">
                <Link to={`/${asset.name}`} title={asset.naturalKey}>
                  {asset.displayName}
                </Link>
              </th>
              <td>
                <KindTag kind={asset.kind} />
              </td>
              <td className="clip">{summaryOf(asset.details)}</td>
              <td>
                <StateBadge state={asset.state} deleted={asset.deleteTime !== undefined} />
              </td>
              <td>
                {asset.node && (
                  <Link to={`/${asset.node}`}>
                    {asset.nodeDisplayName || resourceId(asset.node)}
                  </Link>
                )}
              </td>
              <td className="clip">
                {asset.managed?.owner}
                {asset.managed && asset.managed.lifecycle !== Lifecycle.UNSPECIFIED && (
                  <span className="faint"> {lifecycleName(asset.managed.lifecycle)}</span>
                )}
              </td>
              <td>
                <Age at={asset.updateTime} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
