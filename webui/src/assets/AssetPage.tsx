import { Code } from "@connectrpc/connect";
import { Link, useParams } from "react-router";
import { curl, grpcurl } from "../calls/commands";
import { CopyCalls } from "../calls/CopyCalls";
import { isCode } from "../errors/problem";
import { Age, Moment } from "../format/Time";
import { FreshnessNote } from "../freshness/FreshnessNote";
import { QueryView } from "../freshness/QueryView";
import type { Asset } from "../gen/assettrack/v1/asset_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { KindTag, StateBadge } from "../shell/Badge";
import { Crumb } from "../shell/Crumb";
import { Page } from "../shell/Page";
import { DeleteRecord } from "./DeleteRecord";
import { FactList } from "./FactList";
import { ImagePackages } from "./ImagePackages";
import { ManagedPanel } from "./ManagedPanel";
import { ASSET_EVERY_MS, useAsset } from "./queries";
import { Relations } from "./Relations";
import { Revisions } from "./Revisions";
import { seenOf } from "./revisionDiff";
import { assetsPath } from "./search";

export default function AssetPage() {
  const { id = "" } = useParams();
  const name = `assets/${id}`;
  const query = useAsset(name);
  const asset = query.data;
  if (!asset && isCode(query.error, Code.NotFound)) {
    return (
      <Page title="Asset not found">
        <p className="empty">
          There is no asset <code>{name}</code>. <Link to="/assets">Go to the assets</Link>
        </p>
      </Page>
    );
  }
  return (
    <Page
      title={asset ? asset.displayName : "Asset"}
      heading={asset && <Heading asset={asset} />}
      aside={<FreshnessNote query={query} everyMs={ASSET_EVERY_MS} />}
    >
      <QueryView query={query} what="The asset could not be read">
        {(shown) => <Content asset={shown} />}
      </QueryView>
    </Page>
  );
}

function Heading({ asset }: { asset: Asset }) {
  return (
    <>
      <Crumb to={assetsPath({ kind: asset.kind })}>
        <KindTag kind={asset.kind} />
      </Crumb>
      {asset.displayName}{" "}
      <StateBadge state={asset.state} deleted={asset.deleteTime !== undefined} />
    </>
  );
}

function Content({ asset }: { asset: Asset }) {
  const { origin } = window.location;
  return (
    <>
      {asset.deleteTime && (
        <p className="problem is-warning">
          This record was deleted on <Moment at={asset.deleteTime} />. It is kept for its history.
        </p>
      )}
      <div className="columns">
        <div>
          <Observed asset={asset} />
          <Relations asset={asset} />
          <Revisions asset={asset} />
          {asset.kind === AssetKind.CONTAINER_IMAGE && <ImagePackages asset={asset} />}
        </div>
        <div>
          <ManagedPanel asset={asset} />
          <RecordFacts asset={asset} />
          <CopyCalls
            commands={[
              curl(origin, `/v1/${asset.name}`),
              curl(origin, `/v1/${asset.name}/revisions`),
              grpcurl(origin, "AssetService/GetAsset", { name: asset.name }),
            ]}
          />
          <DeleteRecord asset={asset} />
        </div>
      </div>
    </>
  );
}

function Observed({ asset }: { asset: Asset }) {
  const seen = seenOf(asset.details);
  if (!seen) {
    return asset.node ? (
      <section className="panel">
        <h2>Observed</h2>
        <p className="empty">The agent reported no details.</p>
      </section>
    ) : null;
  }
  return (
    <section className="panel">
      <h2>
        Observed <span className="faint">by the agent; nobody else can change it</span>
      </h2>
      <FactList facts={seen.facts} />
    </section>
  );
}

function RecordFacts({ asset }: { asset: Asset }) {
  return (
    <section className="panel">
      <h2>Record</h2>
      <dl className="facts">
        {asset.node && (
          <div>
            <dt>Node</dt>
            <dd>
              <Link to={`/${asset.node}`}>{asset.nodeDisplayName || asset.node}</Link>
            </dd>
          </div>
        )}
        <div>
          <dt>Natural key</dt>
          <dd>{asset.naturalKey ? <code>{asset.naturalKey}</code> : "–"}</dd>
        </div>
        <div>
          <dt>Name</dt>
          <dd>
            <code>{asset.name}</code>
          </dd>
        </div>
        {asset.node && (
          <>
            <div>
              <dt>First seen</dt>
              <dd>
                <Moment at={asset.firstSeenTime} />
              </dd>
            </div>
            <div>
              <dt>Last seen</dt>
              <dd>
                <Age at={asset.lastSeenTime} />
              </dd>
            </div>
          </>
        )}
        <div>
          <dt>Recorded</dt>
          <dd>
            <Moment at={asset.createTime} />
          </dd>
        </div>
        <div>
          <dt>Changed</dt>
          <dd>
            <Moment at={asset.updateTime} />
          </dd>
        </div>
        <div>
          <dt>Revision</dt>
          <dd className="num">
            {asset.revision.toString()}
            {asset.managedRevision > 0n && (
              <span className="faint"> · edited {asset.managedRevision.toString()} ×</span>
            )}
          </dd>
        </div>
      </dl>
    </section>
  );
}
