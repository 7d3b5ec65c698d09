// The one way to the server: gRPC-Web on the origin that served the page.
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { createContext, useContext } from "react";
import { ServerClock } from "./format/serverClock";
import { AssetService } from "./gen/assettrack/v1/asset_service_pb";
import { DeadLetterService } from "./gen/assettrack/v1/dead_letter_service_pb";
import { EventService } from "./gen/assettrack/v1/event_service_pb";
import { ImageService } from "./gen/assettrack/v1/image_service_pb";
import { NodeService } from "./gen/assettrack/v1/node_service_pb";
import { OverviewService } from "./gen/assettrack/v1/overview_service_pb";

/** A client of each public service, over one transport. */
export interface Api {
  assets: Client<typeof AssetService>;
  events: Client<typeof EventService>;
  images: Client<typeof ImageService>;
  letters: Client<typeof DeadLetterService>;
  nodes: Client<typeof NodeService>;
  overview: Client<typeof OverviewService>;
}

export function createApi(transport: Transport): Api {
  return {
    assets: createClient(AssetService, transport),
    events: createClient(EventService, transport),
    images: createClient(ImageService, transport),
    letters: createClient(DeadLetterService, transport),
    nodes: createClient(NodeService, transport),
    overview: createClient(OverviewService, transport),
  };
}

/** No answer is waited for longer than this, in milliseconds. */
const DEADLINE_MS = 15_000;

/** Transport of the browser; each answer also tells `clock` the server's time. */
export function browserTransport(clock: ServerClock): Transport {
  const readClock: Interceptor = (next) => async (request) => {
    const sent = Date.now();
    const response = await next(request);
    clock.observe(response.header.get("date"), sent, Date.now());
    return response;
  };
  return createGrpcWebTransport({
    baseUrl: window.location.origin,
    defaultTimeoutMs: DEADLINE_MS,
    interceptors: [readClock],
  });
}

export const ApiContext = createContext<Api | null>(null);

/** The clients. Throws outside of `ApiContext`. */
export function useApi(): Api {
  const api = useContext(ApiContext);
  if (!api) {
    throw new Error("useApi outside of ApiContext");
  }
  return api;
}
