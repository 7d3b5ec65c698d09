import { type FormEvent, useState } from "react";
import { useNavigate } from "react-router";
import { ProblemBox } from "../errors/ProblemBox";
import { problemOf } from "../errors/problem";
import { Lifecycle } from "../gen/assettrack/v1/asset_pb";
import { AssetKind } from "../gen/assettrack/v1/kind_pb";
import { Page } from "../shell/Page";
import { DraftFields, Field } from "./DraftFields";
import { type Draft, labelProblem, managedOf } from "./managedDraft";
import { useCreateAsset } from "./queries";

const NOTHING: Draft = {
  displayName: "",
  owner: "",
  lifecycle: Lifecycle.UNSPECIFIED,
  location: "",
  labels: [],
  notes: "",
};

/** Records what no agent can see. */
export default function NewAssetPage() {
  const [draft, setDraft] = useState(NOTHING);
  const [naturalKey, setNaturalKey] = useState("");
  const create = useCreateAsset();
  const navigate = useNavigate();
  const labels = labelProblem(draft.labels);
  const violations = create.isError ? problemOf(create.error).violations : [];
  const keyRefusal = violations.find(({ field }) => field.endsWith("natural_key"))?.description;

  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    if (labels !== undefined || create.isPending) {
      return;
    }
    create.mutate(
      {
        asset: {
          kind: AssetKind.CUSTOM,
          displayName: draft.displayName.trim(),
          naturalKey: naturalKey.trim(),
          managed: managedOf(draft),
        },
      },
      { onSuccess: ({ name }) => navigate(`/${name}`) },
    );
  };

  return (
    <Page title="New asset">
      <p className="lead">
        For what no agent can see: a rack, a licence, a contract. Its kind is <code>CUSTOM</code>.
      </p>
      <form className="editor panel is-narrow" onSubmit={onSubmit}>
        <DraftFields
          draft={draft}
          onChange={setDraft}
          named
          violations={violations}
          labelProblem={labels}
        />
        <Field label="Natural key (optional)" refusal={keyRefusal}>
          {(id) => (
            <input
              id={id}
              placeholder="What identifies it for you, such as an inventory number"
              value={naturalKey}
              onChange={(event) => setNaturalKey(event.target.value)}
            />
          )}
        </Field>
        {create.isError && <ProblemBox error={create.error} what="Not recorded" />}
        <div className="editor-foot">
          <button type="submit" className="primary" aria-disabled={create.isPending}>
            {create.isPending ? "Recording…" : "Record asset"}
          </button>
        </div>
      </form>
    </Page>
  );
}
