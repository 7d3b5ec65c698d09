//! Runs other programs to their end, and ends them when the user says so.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{Context, Error},
    interrupt::Interrupt,
    logs::tail,
    process,
};

/// Time between two looks at a running program.
const LOOK: Duration = Duration::from_millis(50);
/// How long a program may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// How long output of a program's own children is read on after its end.
const DRAIN: Duration = Duration::from_secs(2);
/// Lines of a failed program's output that are shown.
const SHOWN_LINES: usize = 30;

/// The program and its arguments, for a message.
pub fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Runs a short program and answers its standard output.
pub fn output(command: &mut Command) -> Result<String, Error> {
    let what = describe(command);
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().trying(|| format!("run {what}"))?;
    if !status.success() {
        return Err(failed(&what, status, &String::from_utf8_lossy(&stderr)));
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Runs a program whose output the user sees.
pub fn run(command: &mut Command, interrupt: &Interrupt) -> Result<(), Error> {
    let what = describe(command);
    let child = start(command)?;
    succeeded(&what, wait(child, interrupt)?, "")
}

/// Runs a program whose output goes to a file; its end is shown on failure.
pub fn run_quietly(command: &mut Command, log: &Path, interrupt: &Interrupt) -> Result<(), Error> {
    let what = describe(command);
    if let Some(directory) = log.parent() {
        fs::create_dir_all(directory).on("make", directory)?;
    }
    let file = File::create(log).on("write", log)?;
    let errors = file.try_clone().on("write", log)?;
    let child = start(command.stdout(file).stderr(errors))?;
    let status = wait(child, interrupt)?;
    succeeded(&what, status, &tail(log, SHOWN_LINES))
}

/// Runs a program and hands over each line of its output, both streams as one.
pub fn run_lines(
    command: &mut Command,
    interrupt: &Interrupt,
    mut each: impl FnMut(&str),
) -> Result<ExitStatus, Error> {
    let what = describe(command);
    let (reader, writer) = io::pipe().trying(|| format!("make a pipe for {what}"))?;
    let errors = writer.try_clone().trying(|| format!("make a pipe for {what}"))?;
    let mut child = start(command.stdout(writer).stderr(errors))?;
    // The command holds the pipe's writing ends: without this no end is seen.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let (send, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            if send.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    let mut ended: Option<(ExitStatus, Instant)> = None;
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(line) => each(line.trim_end_matches('\r')),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if interrupt.is_raised() {
            end(&mut child);
            return Err(Error::Interrupted);
        }
        match ended {
            // A grandchild that was left behind may hold the pipe for ever.
            Some((_, at)) if at.elapsed() > DRAIN => break,
            Some(_) => {}
            None => {
                ended = child
                    .try_wait()
                    .trying(|| format!("wait for {what}"))?
                    .map(|status| (status, Instant::now()));
            }
        }
    }
    match ended {
        Some((status, _)) => Ok(status),
        None => wait(child, interrupt),
    }
}

/// Starts a program in a process group of its own, so that it can be ended with
/// all its children, and so that Ctrl-C reaches only us.
fn start(command: &mut Command) -> Result<Child, Error> {
    let what = describe(command);
    command.stdin(Stdio::null()).process_group(0).spawn().trying(|| format!("run {what}"))
}

fn wait(mut child: Child, interrupt: &Interrupt) -> Result<ExitStatus, Error> {
    loop {
        if let Some(status) = child.try_wait().trying(|| "wait for a program".to_owned())? {
            return Ok(status);
        }
        if interrupt.is_raised() {
            end(&mut child);
            return Err(Error::Interrupted);
        }
        thread::sleep(LOOK);
    }
}

/// Ends a program and its children: politely, then not.
fn end(child: &mut Child) {
    process::signal_group(child.id(), process::Signal::SIGTERM);
    let asked = Instant::now();
    while asked.elapsed() < GRACE {
        if !matches!(child.try_wait(), Ok(None)) {
            break;
        }
        thread::sleep(LOOK);
    }
    process::signal_group(child.id(), process::Signal::SIGKILL);
    // It is killed: this cannot take long, and an error means it is gone.
    let _ = child.wait();
}

fn succeeded(what: &str, status: ExitStatus, output: &str) -> Result<(), Error> {
    if status.success() { Ok(()) } else { Err(failed(what, status, output)) }
}

fn failed(what: &str, status: ExitStatus, output: &str) -> Error {
    let output = output.trim_end();
    let output = if output.is_empty() { String::new() } else { format!("\n{output}") };
    Error::Command { command: what.to_owned(), status: status.to_string(), output }
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Instant};

    use super::{GRACE, output, run_lines};
    use crate::{error::Error, interrupt::Interrupt};

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_come_as_lines_with_the_status() {
        let mut lines = Vec::new();
        let status =
            run_lines(&mut shell("echo a; echo b >&2; printf c; exit 3"), &Interrupt::default(), |line| {
                lines.push(line.to_owned());
            })
            .unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(lines, ["a", "b", "c"]);
    }

    #[test]
    fn an_interrupt_ends_the_program_and_its_children() {
        let interrupt = Interrupt::default();
        let start = Instant::now();
        // The line is its process group, which the interrupt must empty.
        let mut group = String::new();
        let ended = run_lines(&mut shell("echo $$; sleep 600 & wait"), &interrupt.clone(), |line| {
            group = line.to_owned();
            interrupt.raise();
        });
        assert!(matches!(ended, Err(Error::Interrupted)));
        assert!(start.elapsed() < GRACE * 2);
        let left = output(&mut shell("ps -eo pgid=,stat= | awk '$2 !~ /^Z/ {print $1}'")).unwrap();
        assert!(!left.split_whitespace().any(|other| other == group), "group {group} is still there");
    }

    #[test]
    fn a_failure_tells_command_status_and_output() {
        let error = output(&mut shell("echo no such thing >&2; exit 2")).unwrap_err().to_string();
        assert!(error.contains("exit status: 2") && error.contains("no such thing"), "{error}");
    }
}
