import {
  keepPreviousData,
  useInfiniteQuery,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { useApi } from "../connect";
import type { Asset } from "../gen/assettrack/v1/asset_pb";
import type {
  CreateAssetRequestSchema,
  UpdateAssetRequestSchema,
} from "../gen/assettrack/v1/asset_service_pb";

const ASSETS_PAGE = 100;
const REVISIONS_PAGE = 25;
const PACKAGES_PAGE = 100;

/** How often an open asset is read again, in milliseconds. */
export const ASSET_EVERY_MS = 5_000;
/** How often a list is read again while it is short, in milliseconds. */
export const LIST_EVERY_MS = 10_000;
/** How often the packages in an image are read again: they seldom change. */
const PACKAGES_EVERY_MS = 30_000;
/** A list of more pages than this does not refresh by itself. */
const LIVE_PAGES = 3;

const keys = {
  all: ["assets"] as const,
  list: (filter: string, showDeleted: boolean) =>
    [...keys.all, "list", filter, showDeleted] as const,
  one: (name: string) => [...keys.all, "one", name] as const,
  packages: (name: string) => [...keys.all, "packages", name] as const,
  revisions: (name: string, newest: string) => [...keys.all, "revisions", name, newest] as const,
};

/** Where the cache keeps one asset. */
export const assetKey = keys.one;

/** Assets by filter, page by page. */
export function useAssets(filter: string, showDeleted: boolean) {
  const { assets } = useApi();
  return useInfiniteQuery({
    queryKey: keys.list(filter, showDeleted),
    queryFn: ({ pageParam, signal }) =>
      assets.listAssets(
        { filter, showDeleted, pageSize: ASSETS_PAGE, pageToken: pageParam },
        { signal },
      ),
    initialPageParam: "",
    getNextPageParam: (last) => last.nextPageToken || undefined,
    placeholderData: keepPreviousData,
    refetchInterval: ({ state }) =>
      isLive(state.data?.pages.length ?? 0) ? LIST_EVERY_MS : false,
  });
}

/** Whether a list of so many pages refreshes by itself. */
export function isLive(pages: number): boolean {
  return pages <= LIVE_PAGES;
}

/** One asset, kept current while it is open. */
export function useAsset(name: string) {
  const { assets } = useApi();
  return useQuery({
    queryKey: keys.one(name),
    queryFn: ({ signal }) => assets.getAsset({ name }, { signal }),
    refetchInterval: ASSET_EVERY_MS,
  });
}

/** Revisions of an asset whose newest one is `newest`, newest first. */
export function useRevisions(name: string, newest: bigint) {
  const { assets } = useApi();
  return useInfiniteQuery({
    queryKey: keys.revisions(name, newest.toString()),
    queryFn: ({ pageParam, signal }) =>
      assets.listAssetRevisions(
        { parent: name, pageSize: REVISIONS_PAGE, pageToken: pageParam },
        { signal },
      ),
    initialPageParam: "",
    getNextPageParam: (last) => last.nextPageToken || undefined,
    placeholderData: keepPreviousData,
    // A revision never changes; a new one is a new key.
    staleTime: Number.POSITIVE_INFINITY,
  });
}

/** Packages in a container image, page by page. */
export function useImagePackages(name: string) {
  const { images } = useApi();
  return useInfiniteQuery({
    queryKey: keys.packages(name),
    queryFn: ({ pageParam, signal }) =>
      images.listImagePackages(
        { parent: name, pageSize: PACKAGES_PAGE, pageToken: pageParam },
        { signal },
      ),
    initialPageParam: "",
    getNextPageParam: (last) => last.nextPageToken || undefined,
    // They may be read later, or better.
    refetchInterval: ({ state }) =>
      isLive(state.data?.pages.length ?? 0) ? PACKAGES_EVERY_MS : false,
  });
}

export function useCreateAsset() {
  const { assets } = useApi();
  const settle = useSettle();
  return useMutation({
    mutationFn: (request: MessageInitShape<typeof CreateAssetRequestSchema>) =>
      assets.createAsset(request),
    onSuccess: settle,
  });
}

export function useUpdateAsset() {
  const { assets } = useApi();
  const settle = useSettle();
  return useMutation({
    mutationFn: (request: MessageInitShape<typeof UpdateAssetRequestSchema>) =>
      assets.updateAsset(request),
    onSuccess: settle,
  });
}

export function useDeleteAsset() {
  const { assets } = useApi();
  const settle = useSettle();
  return useMutation({
    mutationFn: ({ name, etag }: Asset) => assets.deleteAsset({ name, etag }),
    onSuccess: settle,
  });
}

/** Puts the answer of a write in the cache; all lists are then out of date. */
function useSettle() {
  const cache = useQueryClient();
  return async (asset: Asset) => {
    // A read that is under way may carry the state from before the write.
    await cache.cancelQueries({ queryKey: keys.one(asset.name) });
    cache.setQueryData(keys.one(asset.name), asset);
    void cache.invalidateQueries({ queryKey: [...keys.all, "list"] });
  };
}
