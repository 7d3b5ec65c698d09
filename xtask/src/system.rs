//! The whole system of an instance: started in order, stopped in order.

use std::time::Duration;

use crate::{
    error::Error,
    http,
    instance::{Instance, Launch, Started},
    interrupt::Interrupt,
    process::Signal,
    progress::Progress,
    servers::{postgres, rabbitmq},
};

/// How long a service may take to be ready: migrations, the agent's first scan.
const READY_DEADLINE: Duration = Duration::from_secs(90);

/// Starts each service that does not run as planned, and waits until all are
/// ready. The first of the plan is waited for before the rest start: it migrates
/// the database.
pub fn start_services(
    instance: &mut Instance,
    plan: Vec<Launch>,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<(), Error> {
    let mut starting = Vec::new();
    for (position, launch) in plan.into_iter().enumerate() {
        interrupt.check()?;
        if instance.runs_as(&launch) {
            continue;
        }
        let how = how_to_stop(&launch.name);
        instance.stop(&launch.name, how.signal, how.grace)?;
        let (name, admin_port) = (launch.name.clone(), launch.admin_port);
        let started = instance.start(launch)?;
        if position == 0 {
            progress.part(&name, || ready(started, admin_port, interrupt))?;
        } else {
            starting.push((name, started, admin_port));
        }
    }
    for (name, started, admin_port) in starting {
        progress.part(&name, || ready(started, admin_port, interrupt))?;
    }
    Ok(())
}

fn ready(mut started: Started, admin_port: Option<u16>, interrupt: &Interrupt) -> Result<(), Error> {
    started.await_ready(READY_DEADLINE, interrupt, || admin_port.map_or(Ok(()), http::ready))
}

/// Stops everything that runs: who produces first, who is depended on last.
pub fn stop(instance: &mut Instance) -> Result<(), Error> {
    let mut names: Vec<String> =
        instance.state.processes.iter().map(|process| process.name.clone()).collect();
    names.sort_by_key(|name| how_to_stop(name).rank);
    for name in names {
        let how = how_to_stop(&name);
        instance.stop(&name, how.signal, how.grace)?;
    }
    Ok(())
}

/// Stops AssetTrack's own processes and leaves the servers.
pub fn stop_services(instance: &mut Instance) -> Result<(), Error> {
    let services: Vec<String> = instance
        .state
        .processes
        .iter()
        .filter(|process| process.admin_port.is_some())
        .map(|process| process.name.clone())
        .collect();
    for name in services {
        let how = how_to_stop(&name);
        instance.stop(&name, how.signal, how.grace)?;
    }
    Ok(())
}

struct HowToStop {
    rank: u8,
    signal: Signal,
    grace: Duration,
}

fn how_to_stop(name: &str) -> HowToStop {
    let (rank, signal, seconds) = match name {
        "agent" => (0, Signal::SIGTERM, 10),
        "gateway" => (1, Signal::SIGTERM, 10),
        "processor" => (3, Signal::SIGTERM, 10),
        rabbitmq::NAME => (4, Signal::SIGTERM, 20),
        // Registered nodes keep it; so it goes after them.
        rabbitmq::PORT_MAPPER => (5, Signal::SIGTERM, 5),
        // SIGTERM would wait for clients to leave (pg_ctl's "smart" mode).
        postgres::NAME => (6, Signal::SIGINT, 20),
        // Collectors: after what feeds them, before what they feed.
        _ => (2, Signal::SIGTERM, 10),
    };
    HowToStop { rank, signal, grace: Duration::from_secs(seconds) }
}

#[cfg(test)]
mod tests {
    use super::how_to_stop;

    #[test]
    fn producers_stop_first_and_what_others_depend_on_last() {
        let mut names =
            ["postgres", "epmd", "processor", "collector-2", "rabbitmq", "gateway", "collector-1", "agent"];
        names.sort_by_key(|name| how_to_stop(name).rank);
        assert_eq!(
            names,
            ["agent", "gateway", "collector-2", "collector-1", "processor", "rabbitmq", "epmd", "postgres"]
        );
    }
}
