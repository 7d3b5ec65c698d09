import type { Transport } from "@connectrpc/connect";
import { QueryClientProvider } from "@tanstack/react-query";
import { render } from "@testing-library/react";
import { type ReactElement, useEffect } from "react";
import { MemoryRouter, Route, Routes, useLocation } from "react-router";
import { ApiContext, createApi } from "../connect";
import { createQueryClient } from "../freshness/queryClient";

/**
 * Renders a page at a URL against a server made with `createRouterTransport`.
 * `path` is the route that the page stands at.
 */
export function renderAt(page: ReactElement, path: string, url: string, transport: Transport) {
  let current = url;
  const cache = createQueryClient();
  render(
    <ApiContext value={createApi(transport)}>
      <QueryClientProvider client={cache}>
        <MemoryRouter initialEntries={[url]}>
          <Where
            onChange={(where) => {
              current = where;
            }}
          />
          <Routes>
            <Route path={path} element={page} />
            <Route path="*" element={<p>another page</p>} />
          </Routes>
        </MemoryRouter>
      </QueryClientProvider>
    </ApiContext>,
  );
  return { cache, url: () => current };
}

/** Tells where the router is. */
function Where({ onChange }: { onChange: (url: string) => void }) {
  const { pathname, search } = useLocation();
  useEffect(() => onChange(pathname + search));
  return null;
}
