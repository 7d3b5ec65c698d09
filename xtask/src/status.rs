//! `cargo xtask status`.

use std::{process::ExitCode, time::Duration};

use crate::{
    checkout::Checkout,
    error::Error,
    http,
    instance::Instance,
    ports,
    process::{ProcessId, uptime},
    servers::rabbitmq,
    services::GATEWAY,
    state::Process,
};

/// Prints a line for each process; success only when all run and are ready.
pub fn run(checkout: &Checkout) -> Result<ExitCode, Error> {
    let instance = Instance::open(&checkout.local()?)?;
    if instance.state.processes.is_empty() {
        println!("nothing runs; start it with `cargo xtask up`");
        return Ok(ExitCode::FAILURE);
    }
    println!("{:<13} {:>7} {:>6} {:>10} {:>8}  READY", "NAME", "PID", "PORT", "UPTIME", "MEMORY");
    // The gateway is the last to be started: before it, the system is not up.
    let mut healthy = instance.state.processes.iter().any(|process| process.name == GATEWAY);
    for process in &instance.state.processes {
        let readiness = readiness(process);
        healthy &= readiness.is_ok();
        let port = process.port.map_or_else(|| "-".to_owned(), |port| port.to_string());
        let running = process.id.is_running().then_some(process.id);
        let age = running.and_then(uptime).map_or_else(|| "-".to_owned(), age);
        let memory = running
            .map(ProcessId::memory)
            .map_or_else(|| "-".to_owned(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6));
        println!(
            "{:<13} {:>7} {port:>6} {age:>10} {memory:>8}  {}",
            process.name,
            process.id.pid,
            readiness.err().unwrap_or_else(|| "yes".to_owned())
        );
    }
    match instance.state.ports.get(GATEWAY) {
        Some(port) if healthy => println!("http://127.0.0.1:{port}"),
        _ => {}
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn readiness(process: &Process) -> Result<(), String> {
    if !process.id.is_running() {
        return Err(format!("no: it has ended; see `cargo xtask logs {}`", process.name));
    }
    let answer = match (process.name.as_str(), process.port, process.admin_port) {
        (_, _, Some(admin)) => http::ready(admin),
        (rabbitmq::NAME, Some(port), _) => rabbitmq::speaks_amqp(port),
        (_, Some(port), _) if !ports::listens(port) => Err("it does not listen".to_owned()),
        _ => Ok(()),
    };
    answer.map_err(|reason| format!("no: {reason}"))
}

fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::age;

    #[test]
    fn an_age_has_the_two_units_that_matter() {
        let cases = [(59, "59 s"), (61, "1 min"), (3_660, "1 h 1 min"), (90_000, "1 d 1 h")];
        for (seconds, text) in cases {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
    }
}
