//! Commands to agents, as they are kept until a collector takes them.

use chrono::{DateTime, TimeDelta, Utc};
use contracts::v1::{AgentCommand, agent_command::Command};
use kit::queue::{COMMAND_TTL_MILLIS, SCHEMA_VERSION};
use prost::Message;
use uuid::Uuid;

use crate::{store::command::NewCommand, timestamp::timestamp};

/// A command for the agent of a node; `now` is the database's clock.
#[must_use]
pub fn new_command(node: Uuid, now: DateTime<Utc>, command: Command) -> NewCommand {
    let uid = Uuid::now_v7();
    let expire_time = now + TimeDelta::milliseconds(i64::from(COMMAND_TTL_MILLIS));
    let command = AgentCommand {
        schema_version: SCHEMA_VERSION,
        command_id: uid.to_string(),
        node_uid: node.to_string(),
        expire_time: Some(timestamp(expire_time)),
        command: Some(command),
    };
    NewCommand { uid, node_uid: node, command: command.encode_to_vec(), create_time: now, expire_time }
}

/// Name of a command in metrics and logs.
#[must_use]
pub fn name(command: &AgentCommand) -> &'static str {
    match command.command {
        Some(Command::Rescan(_)) => "rescan",
        Some(Command::Resync(_)) => "resync",
        Some(Command::NewStream(_)) => "new_stream",
        None => "unknown",
    }
}
