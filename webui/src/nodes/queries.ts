import { useInfiniteQuery, useMutation, useQuery } from "@tanstack/react-query";
import { useApi } from "../connect";

const NODES_PAGE = 200;

/** How often nodes are read again, in milliseconds. */
export const NODES_EVERY_MS = 5_000;

export function useNodes() {
  const { nodes } = useApi();
  return useInfiniteQuery({
    queryKey: ["nodes", "list"],
    queryFn: ({ pageParam, signal }) =>
      nodes.listNodes({ pageSize: NODES_PAGE, pageToken: pageParam }, { signal }),
    initialPageParam: "",
    getNextPageParam: (last) => last.nextPageToken || undefined,
    refetchInterval: NODES_EVERY_MS,
  });
}

export function useNode(name: string) {
  const { nodes } = useApi();
  return useQuery({
    queryKey: ["nodes", "one", name],
    queryFn: ({ signal }) => nodes.getNode({ name }, { signal }),
    refetchInterval: NODES_EVERY_MS,
  });
}

/** Has the agent of a node scan now. What it finds comes as ever. */
export function useRequestScan() {
  const { nodes } = useApi();
  return useMutation({ mutationFn: (name: string) => nodes.requestScan({ name }) });
}
