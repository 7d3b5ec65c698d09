import { QueryClient } from "@tanstack/react-query";

/**
 * The one cache of server state. A failed read is shown at once and not
 * retried in silence: views that refresh by themselves try again anyway.
 */
export function createQueryClient(): QueryClient {
  return new QueryClient({
    defaultOptions: {
      queries: {
        // "Online" means a way to the internet to some browsers; here there is none.
        networkMode: "always",
        retry: false,
        refetchOnWindowFocus: true,
        // Messages hold bigint and bytes, which the default comparison cannot.
        structuralSharing: false,
        staleTime: 2_000,
        gcTime: 5 * 60_000,
      },
      mutations: { networkMode: "always", retry: false },
    },
  });
}
