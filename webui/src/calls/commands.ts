// The same question on a command line.

/** One argument of a POSIX shell. */
function shellQuote(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/** A GET of the REST API, with query parameters. */
export function curl(origin: string, path: string, query: Record<string, string> = {}): string {
  const given = Object.entries(query).filter(([, value]) => value !== "");
  if (given.length === 0) {
    return `curl -s ${shellQuote(origin + path)}`;
  }
  const data = given.map(([key, value]) => `--data-urlencode ${shellQuote(`${key}=${value}`)}`);
  return `curl -sG ${shellQuote(origin + path)} ${data.join(" ")}`;
}

/** A call by gRPC reflection; `method` such as `AssetService/GetAsset`. */
export function grpcurl(origin: string, method: string, request: Record<string, unknown>): string {
  const url = new URL(origin);
  const secure = url.protocol === "https:";
  const host = url.port ? url.host : `${url.hostname}:${secure ? 443 : 80}`;
  const given = Object.fromEntries(Object.entries(request).filter(([, value]) => value !== ""));
  const data = shellQuote(JSON.stringify(given));
  return `grpcurl ${secure ? "" : "-plaintext "}-d ${data} ${host} assettrack.v1.${method}`;
}
