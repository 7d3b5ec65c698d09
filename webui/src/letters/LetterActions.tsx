import { useState } from "react";
import { ProblemBox } from "../errors/ProblemBox";
import { count } from "../format/number";
import type { ReplayDeadLettersResponse } from "../gen/assettrack/v1/dead_letter_service_pb";
import { type Selection, useDeleteLetters, useReplayLetters } from "./queries";

interface Props {
  selection: Selection;
  /** What is meant, in words: `all 12 dead letters`. */
  meant: string;
  /** Told when a deletion is through. */
  onDeleted?: () => void;
}

/** Replays and deletes letters; asks once before either. */
export function LetterActions({ selection, meant, onDeleted }: Props) {
  const [asking, setAsking] = useState<"replay" | "delete">();
  const replay = useReplayLetters();
  const remove = useDeleteLetters();
  const running = replay.mutation.isPending;
  const confirm = () => {
    setAsking(undefined);
    if (asking === "replay") {
      replay.mutation.mutate(selection);
    } else {
      remove.mutate(selection, { onSuccess: () => onDeleted?.() });
    }
  };
  return (
    <section className="panel" aria-label="Actions">
      {asking ? (
        <p>
          {asking === "replay"
            ? `Put ${meant} through ingest again? What can be applied now is applied, once; the rest stays.`
            : `Delete ${meant}? What is said in there is lost.`}{" "}
          <button
            type="button"
            className={asking === "delete" ? "danger" : undefined}
            onClick={confirm}
          >
            {asking === "replay" ? "Replay" : "Delete"}
          </button>{" "}
          <button type="button" onClick={() => setAsking(undefined)}>
            Cancel
          </button>
        </p>
      ) : (
        <p>
          <button
            type="button"
            disabled={running || remove.isPending}
            onClick={() => setAsking("replay")}
          >
            Replay…
          </button>{" "}
          <button
            type="button"
            disabled={running || remove.isPending}
            onClick={() => setAsking("delete")}
          >
            Delete…
          </button>{" "}
          {running && (
            <button type="button" onClick={replay.stop}>
              Stop
            </button>
          )}
        </p>
      )}
      {replay.progress && (
        <output>
          <ReplayNote progress={replay.progress} stopped={replay.mutation.data === "stopped"} />
        </output>
      )}
      {remove.data && <output>{count(remove.data.deletedCount)} deleted.</output>}
      {replay.mutation.isError && (
        <ProblemBox error={replay.mutation.error} what="Not all was replayed" />
      )}
      {remove.isError && <ProblemBox error={remove.error} what="Not deleted" />}
    </section>
  );
}

interface NoteProps {
  progress: ReplayDeadLettersResponse;
  stopped: boolean;
}

function ReplayNote({ progress, stopped }: NoteProps) {
  const { total, committed, duplicates, stillDead, gone } = progress;
  const turns = committed + duplicates + stillDead + gone;
  const parts = [
    `${count(committed)} applied`,
    `${count(duplicates)} had come another way`,
    `${count(stillDead)} still cannot be applied`,
    `${count(gone)} were gone`,
  ];
  return (
    <>
      {stopped ? "Stopped after" : "Replayed"} {count(turns)} of {count(total)}: {parts.join(", ")}.
    </>
  );
}
