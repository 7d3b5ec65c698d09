import type { Transport } from "@connectrpc/connect";
import { QueryClientProvider } from "@tanstack/react-query";
import { lazy, useState } from "react";
import { BrowserRouter, Route, Routes } from "react-router";
import { ApiContext, createApi } from "./connect";
import { ClockContext } from "./format/now";
import type { ServerClock } from "./format/serverClock";
import { createQueryClient } from "./freshness/queryClient";
import { NotFoundPage } from "./shell/NotFoundPage";
import { Shell } from "./shell/Shell";

// Each page is a file of its own, loaded when it is first opened.
const OverviewPage = lazy(() => import("./overview/OverviewPage"));
const AssetsPage = lazy(() => import("./assets/AssetsPage"));
const AssetPage = lazy(() => import("./assets/AssetPage"));
const NewAssetPage = lazy(() => import("./assets/NewAssetPage"));
const NodesPage = lazy(() => import("./nodes/NodesPage"));
const NodePage = lazy(() => import("./nodes/NodePage"));
const EventsPage = lazy(() => import("./events/EventsPage"));
const LettersPage = lazy(() => import("./letters/LettersPage"));
const LetterPage = lazy(() => import("./letters/LetterPage"));

interface Props {
  transport: Transport;
  clock: ServerClock;
}

/** The whole UI over one transport. */
export function App({ transport, clock }: Props) {
  const [api] = useState(() => createApi(transport));
  const [cache] = useState(createQueryClient);
  return (
    <ApiContext value={api}>
      <ClockContext value={clock}>
        <QueryClientProvider client={cache}>
          <BrowserRouter>
            <Routes>
              <Route element={<Shell />}>
                <Route index element={<OverviewPage />} />
                <Route path="assets" element={<AssetsPage />} />
                <Route path="assets/new" element={<NewAssetPage />} />
                <Route path="assets/:id" element={<AssetPage />} />
                <Route path="nodes" element={<NodesPage />} />
                <Route path="nodes/:id" element={<NodePage />} />
                <Route path="events" element={<EventsPage />} />
                <Route path="deadLetters" element={<LettersPage />} />
                <Route path="deadLetters/:id" element={<LetterPage />} />
                <Route path="*" element={<NotFoundPage />} />
              </Route>
            </Routes>
          </BrowserRouter>
        </QueryClientProvider>
      </ClockContext>
    </ApiContext>
  );
}
