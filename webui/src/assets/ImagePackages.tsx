import { Code } from "@connectrpc/connect";
import { isCode, problemOf } from "../errors/problem";
import { count } from "../format/number";
import { Moment } from "../format/Time";
import { QueryView } from "../freshness/QueryView";
import type { Asset } from "../gen/assettrack/v1/asset_pb";
import type { PackageDetails } from "../gen/assettrack/v1/details_pb";
import { ImageContentSource } from "../gen/assettrack/v1/event_pb";
import { LoadMore } from "../shell/LoadMore";
import { useImagePackages } from "./queries";

/** What is in a container image, where it was read and since when it is known. */
export function ImagePackages({ asset }: { asset: Asset }) {
  const query = useImagePackages(asset.name);
  const total = query.data?.pages.at(-1)?.totalSize;
  return (
    <section className="panel" aria-label="Packages in this image">
      <h2>
        Packages in this image{" "}
        {total !== undefined && <span className="faint">{count(total)}</span>}
      </h2>
      {!query.data && isCode(query.error, Code.FailedPrecondition) ? (
        <NotRead error={query.error} />
      ) : (
        <QueryView query={query} what="The packages in this image could not be read">
          {({ pages }) => {
            const packages = pages.flatMap((page) => page.packages);
            const [first] = pages;
            return (
              <>
                <p className="faint">
                  {sourceText(first?.source)} The same on every node that has this image. Known since{" "}
                  <Moment at={first?.completeTime} />.
                </p>
                {packages.length === 0 ? (
                  <p className="empty">There are no packages in this image.</p>
                ) : (
                  <>
                    <PackageTable packages={packages} />
                    <LoadMore
                      query={query}
                      shown={`${count(packages.length)} of ${count(total ?? 0n)} shown`}
                    />
                  </>
                )}
              </>
            );
          }}
        </QueryView>
      )}
    </section>
  );
}

/** No failure: an agent has not read them, or not all has arrived. */
function NotRead({ error }: { error: unknown }) {
  return (
    <p className="empty">
      {problemOf(error).reason === "CONTENTS_INCOMPLETE"
        ? "The list of packages is on its way: not every part of it has arrived."
        : "No agent has read the packages in this image yet. It can where it may see the files of images or of running containers."}
    </p>
  );
}

function sourceText(source: ImageContentSource | undefined): string {
  switch (source) {
    case ImageContentSource.LAYERS:
      return "Read in the layers of the image.";
    case ImageContentSource.CONTAINER:
      return "Read in a running container, which may have changed its files.";
    default:
      return "";
  }
}

function PackageTable({ packages }: { packages: readonly PackageDetails[] }) {
  return (
    <div className="table-frame">
      <table>
        <caption className="visually-hidden">Packages in this image</caption>
        <thead>
          <tr>
            <th scope="col">Package</th>
            <th scope="col">Version</th>
            <th scope="col">Architecture</th>
            <th scope="col">Manager</th>
            <th scope="col">Source</th>
            <th scope="col">Licence</th>
          </tr>
        </thead>
        <tbody>
          {keyed(packages).map(([key, one]) => (
            <tr key={key}>
              <th scope="row" className="name" title={one.summary}>
                {one.package}
              </th>
              <td className="num">{one.version}</td>
              <td>{one.architecture}</td>
              <td>{one.manager}</td>
              <td className="clip">{one.source}</td>
              <td className="clip">{one.license}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Nothing forbids an image to list the same package twice. */
function keyed(packages: readonly PackageDetails[]): [string, PackageDetails][] {
  const seen = new Map<string, number>();
  return packages.map((one) => {
    const what = [one.manager, one.package, one.architecture, one.version].join(" ");
    const times = (seen.get(what) ?? 0) + 1;
    seen.set(what, times);
    return [`${what} ${times}`, one];
  });
}
