import { useQuery } from "@tanstack/react-query";
import { useApi } from "../connect";

/** How often the overview is read again, in milliseconds. */
export const OVERVIEW_EVERY_MS = 3_000;

export function useOverview() {
  const { overview } = useApi();
  return useQuery({
    queryKey: ["overview"],
    queryFn: ({ signal }) => overview.getOverview({}, { signal }),
    refetchInterval: OVERVIEW_EVERY_MS,
  });
}
