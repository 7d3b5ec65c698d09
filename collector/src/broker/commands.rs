//! Publishes commands to agents, by a connection of its own: a broker in alarm
//! stops reading from connections that publish, and acknowledgements must get
//! through just then.
//!
//! What cannot be published at once is dropped and counted. Who needs a command
//! asks for it again (command.proto).

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use contracts::v1::AgentCommand;
use kit::{
    amqp::{Broker, ConnectError},
    identity::parse_uuid,
    queue::{COMMAND_TTL_MILLIS, CONTENT_TYPE, Topology, command_key},
};
use lapin::{
    BasicProperties, Channel, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use prost::Message;
use prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{CLOSE_DEADLINE, GOOD_AFTER};
use crate::{backoff::Backoff, observed::Observed};

/// How long the broker may take to confirm; one in alarm never does.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(5);
/// How often an idle connection is looked at: the next command should not be the
/// one that finds it gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Commands are small, and so may be the client's buffers.
const FRAME_BYTES: u32 = 16 << 10;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    #[error("no confirm within {} s", CONFIRM_DEADLINE.as_secs())]
    Unconfirmed,
    #[error("the connection is gone")]
    Gone,
}

/// Publishes the commands that come, until `shutdown`.
pub async fn publish(
    broker: Broker,
    topology: Topology,
    mut commands: mpsc::Receiver<AgentCommand>,
    observed: Observed,
    shutdown: CancellationToken,
) {
    let broker = broker.with_frame_max(FRAME_BYTES);
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
    let mut told = false;
    let publishing = async {
        loop {
            let opened = tokio::select! {
                opened = open(&broker) => opened,
                never = drop_all(&mut commands, &observed) => match never {},
            };
            let failure = match opened {
                Ok((connection, channel)) => {
                    told = false;
                    let since = Instant::now();
                    let publisher = Publisher {
                        channel,
                        exchange: topology.command_exchange(),
                        observed: observed.clone(),
                    };
                    let Err(failure) = publisher.run(&connection, &mut commands).await;
                    let closing = connection.close(200, "done".into());
                    let _ = tokio::time::timeout(CLOSE_DEADLINE, closing).await;
                    if since.elapsed() >= GOOD_AFTER {
                        backoff.reset();
                    }
                    failure
                }
                Err(failure) => failure,
            };
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(error = %failure, "commands cannot be published, trying again");
            }
            let pause = backoff.pause(rand::random());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                never = drop_all(&mut commands, &observed) => match never {},
            }
        }
    };
    shutdown.run_until_cancelled(publishing).await;
}

async fn open(broker: &Broker) -> Result<(Connection, Channel), Failure> {
    let connection = broker.connect().await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}

/// Drops what comes, for as long as it is polled.
async fn drop_all(commands: &mut mpsc::Receiver<AgentCommand>, observed: &Observed) -> Infallible {
    while commands.recv().await.is_some() {
        observed.command("disconnected");
    }
    std::future::pending().await
}

struct Publisher {
    channel: Channel,
    exchange: String,
    observed: Observed,
}

impl Publisher {
    async fn run(
        &self,
        connection: &Connection,
        commands: &mut mpsc::Receiver<AgentCommand>,
    ) -> Result<Infallible, Failure> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    if !connection.status().connected() || !self.channel.status().connected() {
                        return Err(Failure::Gone);
                    }
                }
                command = commands.recv() => {
                    let Some(command) = command else { return std::future::pending().await };
                    match self.one(&command).await {
                        Ok(result) => self.observed.command(result),
                        Err(failure) => {
                            self.observed.command("unconfirmed");
                            return Err(failure);
                        }
                    }
                }
            }
        }
    }

    /// Answers what became of it.
    async fn one(&self, command: &AgentCommand) -> Result<&'static str, Failure> {
        let (Some(node), Some(id)) = (parse_uuid(&command.node_uid), parse_uuid(&command.command_id)) else {
            let (node, id) = (&command.node_uid, &command.command_id);
            tracing::warn!(node, command_id = id, "a command has no UUID of its own or of a node");
            return Ok("invalid");
        };
        let Some(millis) = time_left(command.expire_time.as_ref(), &kit::time::now()) else {
            return Ok("expired");
        };
        let properties = BasicProperties::default()
            .with_delivery_mode(1)
            .with_content_type(CONTENT_TYPE.into())
            .with_message_id(id.to_string().into())
            .with_expiration(millis.to_string().into());
        let (exchange, key, body) = (self.exchange.as_str(), command_key(node), command.encode_to_vec());
        // Mandatory, to know of those that no agent is there to take.
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let confirmed = async {
            self.channel.basic_publish(exchange.into(), key.into(), options, &body, properties).await?.await
        };
        let confirmation =
            tokio::time::timeout(CONFIRM_DEADLINE, confirmed).await.map_err(|_| Failure::Unconfirmed)??;
        if !confirmation.is_ack() {
            return Ok("refused");
        }
        Ok(if confirmation.take_message().is_some() { "unroutable" } else { "published" })
    }
}

/// Milliseconds that a command may wait for its agent: at most a minute; `None`
/// if its time is over.
fn time_left(expire: Option<&Timestamp>, now: &Timestamp) -> Option<u32> {
    let Some(expire) = expire else { return Some(COMMAND_TTL_MILLIS) };
    let millis = |time: &Timestamp| i128::from(time.seconds) * 1000 + i128::from(time.nanos / 1_000_000);
    let left = millis(expire) - millis(now);
    (left > 0).then(|| u32::try_from(left).unwrap_or(u32::MAX).min(COMMAND_TTL_MILLIS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_waits_a_minute_or_what_is_left_of_its_time() {
        let at = |seconds, nanos| Timestamp { seconds, nanos };
        let now = at(1_800_000_000, 500_000_000);
        for (expire, left) in [
            (None, Some(60_000)),
            (Some(at(1_800_000_010, 0)), Some(9_500)),
            (Some(at(1_800_000_000, 501_000_000)), Some(1)),
            (Some(at(1_800_000_000, 500_999_999)), None),
            (Some(at(1_800_000_000, 0)), None),
            (Some(at(i64::MAX, 0)), Some(60_000)),
            (Some(at(i64::MIN, -1)), None),
        ] {
            assert_eq!(time_left(expire.as_ref(), &now), left, "{expire:?}");
        }
    }
}
