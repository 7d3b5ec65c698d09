//! Whether what the agent has found is in the inventory.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    error::Error, http, instance::Instance, interrupt::Interrupt, progress::Progress, services::GATEWAY,
};

const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);

/// Waits until all that the agent has recorded so far can be asked for: its
/// first scan ends before it is ready, but the way to the processor is long.
pub fn arrived(instance: &Instance, interrupt: &Interrupt, progress: &Progress) -> Result<(), Error> {
    let port = |name: &str| instance.state.ports.get(name).copied();
    let (Some(agent), Some(gateway)) = (port("agent-admin"), port(GATEWAY)) else { return Ok(()) };
    let complete = progress.part("inventory of this machine", || wait(agent, gateway, interrupt))?;
    if !complete {
        progress.say("it is still on its way; `cargo xtask logs agent` may say why");
    }
    Ok(())
}

fn wait(agent: u16, gateway: u16, interrupt: &Interrupt) -> Result<bool, Error> {
    let start = Instant::now();
    while start.elapsed() < DEADLINE {
        interrupt.check()?;
        let last = http::body(agent, "/metrics").and_then(|metrics| last_sequence(&metrics));
        let nodes = http::body(gateway, "/v1/nodes?page_size=1000");
        if let (Some(last), Some(nodes)) = (last, nodes)
            && received(&nodes).iter().any(|received| *received >= last)
        {
            return Ok(true);
        }
        thread::sleep(LOOK);
    }
    Ok(false)
}

/// Newest sequence in the agent's metrics.
fn last_sequence(metrics: &str) -> Option<i64> {
    metrics.lines().find_map(|line| line.strip_prefix("assettrack_agent_last_sequence ")?.parse().ok())
}

/// What has been received of each healthy node.
fn received(nodes: &str) -> Vec<i64> {
    let nodes: Value = serde_json::from_str(nodes).unwrap_or_default();
    let nodes = nodes["nodes"].as_array().cloned().unwrap_or_default();
    let healthy = nodes.iter().filter(|node| node["health"] == "NODE_HEALTH_HEALTHY");
    healthy.filter_map(|node| node["receivedSequence"].as_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{last_sequence, received};

    #[test]
    fn figures_are_read_from_the_answers() {
        let metrics =
            "# TYPE assettrack_agent_last_sequence gauge\nassettrack_agent_last_sequence 11\n# EOF\n";
        assert_eq!(last_sequence(metrics), Some(11));
        assert_eq!(last_sequence("# EOF\n"), None);
        let nodes = r#"{"nodes":[{"health":"NODE_HEALTH_HEALTHY","receivedSequence":"11"},
            {"health":"NODE_HEALTH_STALE","receivedSequence":"40"},{"health":"NODE_HEALTH_HEALTHY"}]}"#;
        assert_eq!(received(nodes), [11]);
        assert!(received("no JSON").is_empty());
    }
}
