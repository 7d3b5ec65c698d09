import { useState } from "react";
import { ProblemBox } from "../errors/ProblemBox";
import { type Asset, AssetState } from "../gen/assettrack/v1/asset_pb";
import { useDeleteAsset } from "./queries";

/** Deletes a record that no agent sees; asks once. */
export function DeleteRecord({ asset }: { asset: Asset }) {
  const [asking, setAsking] = useState(false);
  const remove = useDeleteAsset();
  if (asset.deleteTime || asset.state === AssetState.ACTIVE) {
    return null;
  }
  return (
    <section className="panel">
      <h2>Delete</h2>
      {asking ? (
        <p>
          Delete the record of <strong>{asset.displayName}</strong>? It leaves the lists; its
          history stays.{" "}
          <button
            type="button"
            className="danger"
            aria-disabled={remove.isPending}
            onClick={() => remove.mutate(asset, { onSettled: () => setAsking(false) })}
          >
            Delete
          </button>{" "}
          <button type="button" onClick={() => setAsking(false)}>
            Keep
          </button>
        </p>
      ) : (
        <button type="button" onClick={() => setAsking(true)}>
          Delete record…
        </button>
      )}
      {remove.isError && <ProblemBox error={remove.error} what="Not deleted" />}
    </section>
  );
}
