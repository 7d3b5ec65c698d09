import { create, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { type Asset, AssetSchema, AssetState, ManagedFieldsSchema } from "../gen/assettrack/v1/asset_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import {
  AssetService,
  type ListAssetsRequest,
  type UpdateAssetRequest,
} from "../gen/assettrack/v1/asset_service_pb";
import { EventType } from "../gen/assettrack/v1/event_pb";
import { BadRequestSchema, ErrorInfoSchema } from "../gen/google/rpc/error_details_pb";

type Part<Schema extends DescMessage> = Exclude<MessageInitShape<Schema>, MessageShape<Schema>>;

/** The package `bash`, with what a test wants different. */
export function bash(part: Part<typeof AssetSchema> = {}): Asset {
  return create(AssetSchema, {
    name: "assets/00000000-0000-5000-8000-000000000001",
    kind: AssetKind.PACKAGE,
    displayName: "bash",
    node: "nodes/00000000-0000-5000-8000-0000000000ff",
    nodeDisplayName: "node-1",
    naturalKey: "dpkg/bash:amd64",
    state: AssetState.ACTIVE,
    details: {
      details: {
        case: "package",
        value: { package: "bash", version: "5.2.15-2+b7", architecture: "amd64" },
      },
    },
    revision: 1n,
    etag: "m0",
    updateTime: timestampFromDate(new Date("2026-11-23T12:00:00Z")),
    ...part,
  });
}

/**
 * A server that keeps one asset by the rules of the contract: etags, masks, one
 * revision a change. Everything asked of it is kept for the test to see.
 */
export class OneAssetServer {
  readonly listed: ListAssetsRequest[] = [];
  readonly updates: UpdateAssetRequest[] = [];
  readonly revisions: Asset[];

  constructor(asset: Asset) {
    this.revisions = [asset];
  }

  get asset(): Asset {
    const newest = this.revisions.at(-1);
    if (!newest) {
      throw new Error("a server without an asset");
    }
    return newest;
  }

  /** Somebody edits. */
  edit(managed: Part<typeof ManagedFieldsSchema>): void {
    const { asset } = this;
    this.revisions.push(
      create(AssetSchema, {
        ...asset,
        managed: Object.assign(create(ManagedFieldsSchema), asset.managed, managed),
        revision: asset.revision + 1n,
        managedRevision: asset.managedRevision + 1n,
        etag: `m${asset.managedRevision + 1n}`,
      }),
    );
  }

  transport() {
    return createRouterTransport(({ service }) => {
      service(AssetService, {
        getAsset: () => this.asset,
        listAssets: (request) => {
          this.listed.push(request);
          if (request.filter.includes("knd")) {
            throw refusedFilter("`knd` is no field; did you mean `kind`?");
          }
          return { assets: [this.asset] };
        },
        listAssetRevisions: () => ({
          revisions: this.revisions
            .map((asset) => ({
              name: `${asset.name}/revisions/${asset.revision}`,
              revision: asset.revision,
              asset,
              event: { type: EventType.EDITED, actor: "someone" },
            }))
            .toReversed(),
        }),
        updateAsset: (request) => this.#update(request),
      });
    });
  }

  #update(request: UpdateAssetRequest): Asset {
    this.updates.push(request);
    if (request.asset?.etag !== this.asset.etag) {
      throw new ConnectError("the record was edited in between", Code.Aborted, undefined, [
        { desc: ErrorInfoSchema, value: { reason: "ETAG_MISMATCH", domain: "assettrack" } },
      ]);
    }
    const given = request.asset.managed;
    const managed: Record<string, unknown> = {};
    for (const path of request.updateMask?.paths ?? []) {
      const field = path.replace("managed.", "") as "owner" | "location" | "notes" | "labels";
      managed[field] = given?.[field];
    }
    this.edit(managed);
    return this.asset;
  }
}

function refusedFilter(description: string): ConnectError {
  return new ConnectError(`filter: ${description}`, Code.InvalidArgument, undefined, [
    { desc: BadRequestSchema, value: { fieldViolations: [{ field: "filter", description }] } },
  ]);
}
