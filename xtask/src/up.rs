//! `cargo xtask up` and `down`.

use std::{fs::File, path::Path, thread, time::Duration};

use crate::{
    build,
    checkout::Checkout,
    cli::Up,
    error::Error,
    instance::Instance,
    interrupt::Interrupt,
    inventory,
    logs::Follower,
    need::{self, Need, Node},
    ports,
    progress::Progress,
    servers::{Durability, Given, Urls},
    services::{self, GATEWAY},
    system, watch, webui,
};

/// The gateway's port unless the user chooses another.
const PUBLIC_PORT: u16 = 8080;
/// Time between two looks at the running processes.
const LOOK: Duration = Duration::from_millis(500);

/// Brings the system up; without `--detach` stays until Ctrl-C.
pub fn run(checkout: &Checkout, options: &Up, interrupt: &Interrupt) -> Result<(), Error> {
    let progress = Progress::start();
    let mut instance = Instance::open(&checkout.local()?)?;
    let lock = instance.lock()?;
    let public_port = public_port(&instance, options.port)?;
    let was_running = instance.state.processes.iter().any(|process| process.id.is_running());

    let started = start(checkout, &mut instance, options, public_port, interrupt, &progress);
    if let Err(error) = started {
        // What ran before goes on: it may be older, but it works.
        if !was_running {
            system::stop(&mut instance)?;
        }
        return Err(error);
    }
    println!(
        "\nAssetTrack runs at http://127.0.0.1:{public_port} ({:.1} s)",
        progress.elapsed().as_secs_f64()
    );
    if options.detach {
        println!(
            "Stop it with `cargo xtask down`; look at it with `cargo xtask status` and `cargo xtask logs`."
        );
        return Ok(());
    }
    stay(checkout, instance, lock, options, public_port, interrupt)
}

/// Stops the system.
pub fn down(checkout: &Checkout) -> Result<(), Error> {
    let mut instance = Instance::open(&checkout.local()?)?;
    let _lock = instance.lock()?;
    if instance.state.processes.is_empty() {
        println!("nothing runs");
        return Ok(());
    }
    let progress = Progress::start();
    progress.part("stopped", || system::stop(&mut instance))
}

fn start(
    checkout: &Checkout,
    instance: &mut Instance,
    options: &Up,
    public_port: u16,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<(), Error> {
    let given = Given::from_environment();
    let ui_is_built = webui::is_built(checkout)?;
    let mut needs = given.needs();
    needs.push(Need::Compiler);
    if !ui_is_built || options.watch {
        needs.push(Need::Node);
    }
    progress.part("tools", || need::provide(&needs, checkout, interrupt, progress))?;

    let urls = thread::scope(|scope| {
        let servers = scope.spawn(|| {
            ends_others(interrupt, || given.start(instance, Durability::Kept, interrupt, progress))
        });
        let ui = scope.spawn(|| {
            ends_others(interrupt, || match Node::find(checkout) {
                Some(node) if !ui_is_built => {
                    progress.part("web UI built", || webui::build(&node, checkout, interrupt))
                }
                _ => Ok(()),
            })
        });
        let services = ends_others(interrupt, || {
            progress.part("services built", || build::services(checkout, interrupt))
        });
        first_failure(services, join(ui), join(servers))
    })?;

    let plan = services::plan(checkout, instance, &urls, public_port)?;
    system::start_services(instance, plan, interrupt, progress)?;
    inventory::arrived(instance, interrupt, progress)
}

/// One part has failed: the others need not go on.
fn ends_others<T>(interrupt: &Interrupt, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    work().inspect_err(|_| interrupt.raise())
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The failure that made the others stop, rather than that they were stopped.
fn first_failure(
    services: Result<(), Error>,
    ui: Result<(), Error>,
    servers: Result<Urls, Error>,
) -> Result<Urls, Error> {
    let (urls, servers) = match servers {
        Ok(urls) => (Some(urls), Ok(())),
        Err(error) => (None, Err(error)),
    };
    let mut failures: Vec<Error> = [services, ui, servers].into_iter().filter_map(Result::err).collect();
    failures.sort_by_key(|error| matches!(error, Error::Interrupted));
    match (urls, failures.into_iter().next()) {
        (Some(urls), None) => Ok(urls),
        (_, Some(error)) => Err(error),
        (None, None) => Err(Error::Interrupted),
    }
}

/// The gateway's port: the one asked for, else the last one, else 8080.
fn public_port(instance: &Instance, asked: Option<u16>) -> Result<u16, Error> {
    let port = asked.or_else(|| instance.state.ports.get(GATEWAY).copied()).unwrap_or(PUBLIC_PORT);
    if ports::is_free(port) || instance.holds(port) {
        return Ok(port);
    }
    let taken: Vec<u16> = instance.state.ports.values().copied().collect();
    let suggestion =
        (port.saturating_add(1)..u16::MAX).find(|&port| !taken.contains(&port) && ports::is_free(port));
    Err(Error::PortTaken { port, owner: ports::owner(port), suggestion: suggestion.unwrap_or(PUBLIC_PORT) })
}

/// Shows problems until Ctrl-C, then stops the system.
fn stay(
    checkout: &Checkout,
    mut instance: Instance,
    lock: File,
    options: &Up,
    public_port: u16,
    interrupt: &Interrupt,
) -> Result<(), Error> {
    println!("Problems show here. Ctrl-C stops it.");
    let mut watch = match options.watch {
        true => Some(watch::Watch::start(checkout, &mut instance, public_port)?),
        false => None,
    };
    // `down` from another terminal may stop it.
    drop(lock);
    let mut followers: Vec<(String, Follower)> = Vec::new();
    let mut reported: Vec<u32> = Vec::new();
    while interrupt.pause(LOOK).is_ok() {
        // Another command may have started or stopped processes.
        instance = Instance::open(instance.directory())?;
        if instance.state.processes.is_empty() {
            println!("stopped by `cargo xtask down`");
            return Ok(());
        }
        for process in &instance.state.processes {
            let log = instance.log(&process.name);
            show_problems(&mut followers, &process.name, &log);
            if !process.id.is_running() && !reported.contains(&process.id.pid) {
                reported.push(process.id.pid);
                println!(
                    "{} has ended; `cargo xtask up` in another terminal starts it again. The end of its log:\n{}",
                    process.name,
                    crate::logs::tail(&log, 20)
                );
            }
        }
        if let Some(watch) = &mut watch
            && let Err(error) = watch.look(checkout, &mut instance, public_port, interrupt)
        {
            println!("{error}");
        }
    }
    println!("stopping");
    let _lock = instance.lock()?;
    system::stop(&mut instance)
}

fn show_problems(followers: &mut Vec<(String, Follower)>, name: &str, log: &Path) {
    if !followers.iter().any(|(known, _)| known == name) {
        followers.push((name.to_owned(), Follower::from_end(log)));
    }
    for (known, follower) in followers {
        if known == name {
            for line in follower.lines().iter().filter(|line| crate::logs::is_problem(line)) {
                println!("{name}: {line}");
            }
        }
    }
}
