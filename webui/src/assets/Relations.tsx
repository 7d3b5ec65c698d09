import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import { kindName, relationPhrase, resourceId } from "../format/names";
import type { Asset } from "../gen/assettrack/v1/asset_pb";
import type { Relation } from "../gen/assettrack/v1/details_pb";
import { quoteExact } from "../search/words";
import { KindTag } from "../shell/Badge";
import { assetName } from "./identity";
import { assetsPath } from "./search";

/** What an asset is to others of its node, and which others name it. */
export function Relations({ asset }: { asset: Asset }) {
  if (!asset.node) {
    return null;
  }
  const relations = asset.details?.relations ?? [];
  const others = assetsPath({
    node: resourceId(asset.node),
    text:
      `details.relations.kind:${kindName(asset.kind)} AND ` +
      `details.relations.natural_key:${quoteExact(asset.naturalKey)}`,
  });
  return (
    <section className="panel" aria-label="Relations">
      <h2>
        Relations{" "}
        <Link className="head-link" to={others}>
          Assets that relate to this one
        </Link>
      </h2>
      {relations.length === 0 ? (
        <p className="empty">The agent knows of none that this asset has to others.</p>
      ) : (
        <ul className="relations">
          {relations.map((relation) => (
            <li key={`${relation.type} ${relation.kind} ${relation.naturalKey}`}>
              <span className="faint">{relationPhrase(relation.type)}</span>{" "}
              <KindTag kind={relation.kind} /> <Other node={asset.node} relation={relation} />
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

/** Its page, by the name that follows from its key. It may not be there (yet). */
function Other({ node, relation: { kind, naturalKey } }: { node: string; relation: Relation }) {
  const name = useQuery({
    queryKey: ["asset-name", node, kind, naturalKey],
    queryFn: () => assetName(node, kind, naturalKey),
    staleTime: Number.POSITIVE_INFINITY,
    // No call: it works without a network too.
    networkMode: "always",
    retry: false,
  });
  const search = assetsPath({
    node: resourceId(node),
    kind,
    text: `natural_key=${quoteExact(naturalKey)}`,
  });
  return <Link to={name.data ? `/${name.data}` : search}>{naturalKey}</Link>;
}
