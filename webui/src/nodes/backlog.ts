import type { Node } from "../gen/assettrack/v1/node_service_pb";

/** Batches that the agent has made and that are not received here yet. */
export function backlog(node: Pick<Node, "lastSequence" | "receivedSequence">): bigint {
  // A heartbeat may be older than the newest batch that is in.
  const missing = node.lastSequence - node.receivedSequence;
  return missing > 0n ? missing : 0n;
}
