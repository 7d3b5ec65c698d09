//! Receives the commands of all agents of a connection, over a channel of its
//! own: what fails here is tried again and stops no publishing.

use std::convert::Infallible;
use std::time::Duration;

use contracts::v1::AgentCommand;
use futures::StreamExt;
use futures::stream::select_all;
use kit::queue::{COMMAND_TTL_MILLIS, SCHEMA_VERSION, Topology, command_key};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection};
use prost::Message;
use tokio::sync::mpsc;
use uuid::Uuid;

const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Receives for as long as the connection lasts. Each command goes out with the
/// place of its agent.
pub async fn receive(
    connection: &Connection,
    topology: &Topology,
    nodes: &[Uuid],
    commands: &mpsc::Sender<(usize, AgentCommand)>,
) -> Infallible {
    loop {
        // Queue held by another, exchange not there yet, connection lost: the
        // publishing tells of what matters.
        let Err(_) = consume(connection, topology, nodes, commands).await;
        tokio::time::sleep(RETRY_INTERVAL.mul_f64(rand_share())).await;
    }
}

async fn consume(
    connection: &Connection,
    topology: &Topology,
    nodes: &[Uuid],
    commands: &mpsc::Sender<(usize, AgentCommand)>,
) -> Result<Infallible, lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let mut consumers = Vec::with_capacity(nodes.len());
    for (place, node) in nodes.iter().enumerate() {
        let consumer = declare(&channel, topology, *node).await?;
        consumers.push(consumer.map(move |delivery| (place, delivery)));
    }
    let mut deliveries = select_all(consumers);
    while let Some((place, delivery)) = deliveries.next().await {
        let delivery = delivery?;
        if let Some(command) = check(&delivery.data, nodes[place]) {
            // The receiver lives as long as this future.
            let _ = commands.send((place, command)).await;
        }
        delivery.acker.ack(BasicAckOptions::default()).await?;
    }
    Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into())
}

/// The node's queue, declared and bound as its agent does it.
async fn declare(
    channel: &Channel,
    topology: &Topology,
    node: Uuid,
) -> Result<lapin::Consumer, lapin::Error> {
    let queue = topology.command_queue(node);
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongUInt(COMMAND_TTL_MILLIS));
    channel.queue_declare(queue.as_str().into(), options, arguments).await?;
    let (exchange, key) = (topology.command_exchange(), command_key(node));
    let none = FieldTable::default();
    channel
        .queue_bind(queue.as_str().into(), exchange.into(), key.into(), QueueBindOptions::default(), none)
        .await?;
    let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
    let tag = format!("simulated {node}");
    channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default()).await
}

/// A command that its agent has to obey.
fn check(body: &[u8], node: Uuid) -> Option<AgentCommand> {
    let command = AgentCommand::decode(body).ok()?;
    let now = kit::time::now();
    let has_expired =
        command.expire_time.is_some_and(|time| (time.seconds, time.nanos) < (now.seconds, now.nanos));
    let is_meant = command.schema_version == SCHEMA_VERSION && command.node_uid == node.to_string();
    (is_meant && !has_expired).then_some(command)
}

/// 0.5 to 1, so that not all come back at once.
pub fn rand_share() -> f64 {
    rand::random_range(0.5..=1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_for_the_node_and_has_not_expired_is_obeyed() {
        let node = Uuid::from_u128(7);
        let good = AgentCommand {
            schema_version: SCHEMA_VERSION,
            command_id: Uuid::now_v7().to_string(),
            node_uid: node.to_string(),
            expire_time: Some(kit::time::of_unix_millis(kit::time::unix_millis() + 60_000)),
            command: None,
        };
        assert!(check(&good.encode_to_vec(), node).is_some());
        let wrong = [
            AgentCommand { schema_version: 2, ..good.clone() },
            AgentCommand { node_uid: Uuid::nil().to_string(), ..good.clone() },
            AgentCommand { expire_time: Some(kit::time::of_unix_millis(1)), ..good },
        ];
        for command in wrong {
            assert!(check(&command.encode_to_vec(), node).is_none(), "{command:?}");
        }
        assert!(check(b"\xff", node).is_none());
    }
}
