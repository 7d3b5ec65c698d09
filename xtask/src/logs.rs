//! Logs: their end, their growth, and what in them is a problem.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    checkout::Checkout,
    cli::Logs,
    error::{Context, Error},
    interrupt::Interrupt,
};

/// Most that is read of a log's end.
const TAIL_BYTES: u64 = 1024 * 1024;
/// Time between two looks at a growing log.
const LOOK: Duration = Duration::from_millis(200);

/// `cargo xtask logs`.
pub fn run(checkout: &Checkout, options: &Logs, interrupt: &Interrupt) -> Result<(), Error> {
    let directory = checkout.local()?.join("log");
    let known = known(&directory);
    let chosen: Vec<&String> = match &options.service {
        Some(name) => known.iter().filter(|known| *known == name).collect(),
        None => known.iter().collect(),
    };
    if let (Some(name), []) = (&options.service, chosen.as_slice()) {
        return Err(Error::NoLog { name: name.clone(), known: known.join(", ") });
    }
    let single = chosen.len() == 1;
    let show = |name: &str, line: &str| if single { println!("{line}") } else { println!("{name}: {line}") };
    let mut followers: Vec<(&String, Follower)> = Vec::new();
    for name in chosen {
        let path = directory.join(format!("{name}.log"));
        // From the end as it is before it is read: nothing is left out, a line may show twice.
        let follower = Follower::from_end(&path);
        tail(&path, options.lines).lines().for_each(|line| show(name, line));
        followers.push((name, follower));
    }
    while options.follow && interrupt.pause(LOOK).is_ok() {
        for (name, follower) in &mut followers {
            follower.lines().iter().for_each(|line| show(name, line));
        }
    }
    Ok(())
}

fn known(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".log")?.to_owned()))
        .collect();
    names.sort();
    names
}

/// The last lines of a log, as far as it can be read.
pub fn tail(path: &Path, lines: usize) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok::<Vec<u8>, std::io::Error>(bytes)
    };
    let text = match read().on("read", path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => return error.to_string(),
    };
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Hands out the lines that a log grows by, over its replacement by a new one.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: Option<u64>,
    offset: u64,
    partial: Vec<u8>,
}

impl Follower {
    /// Begins at the present end.
    pub fn from_end(path: &Path) -> Self {
        let metadata = fs::metadata(path).ok();
        Self {
            path: path.to_owned(),
            file: metadata.as_ref().map(MetadataExt::ino),
            offset: metadata.map_or(0, |metadata| metadata.len()),
            partial: Vec::new(),
        }
    }

    /// Whole lines since the last call.
    pub fn lines(&mut self) -> Vec<String> {
        // A log that cannot be read now may be in a moment.
        let Ok(mut file) = File::open(&self.path) else { return Vec::new() };
        let Ok(metadata) = file.metadata() else { return Vec::new() };
        if self.file != Some(metadata.ino()) || metadata.len() < self.offset {
            self.file = Some(metadata.ino());
            self.offset = 0;
            self.partial.clear();
        }
        let mut new = Vec::new();
        if file.seek(SeekFrom::Start(self.offset)).is_err() || file.read_to_end(&mut new).is_err() {
            return Vec::new();
        }
        self.offset += new.len() as u64;
        self.partial.append(&mut new);
        let Some(end) = self.partial.iter().rposition(|&byte| byte == b'\n') else { return Vec::new() };
        let rest = self.partial.split_off(end + 1);
        let whole = std::mem::replace(&mut self.partial, rest);
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }
}

/// Whether a line, of any of our processes, is a warning or worse.
pub fn is_problem(line: &str) -> bool {
    const LEVELS: [&str; 5] = ["warn", "warning", "error", "critical", "fatal"];
    if let Ok(entry) = serde_json::from_str::<serde_json::Value>(line) {
        let level = entry.get("level").and_then(serde_json::Value::as_str).unwrap_or_default();
        return LEVELS.contains(&level.to_lowercase().as_str());
    }
    // PostgreSQL, and what no logger wrote: a panic, a loader's complaint.
    ["ERROR:  ", "FATAL:  ", "PANIC:  ", "WARNING:  ", "error: ", "panicked at"]
        .iter()
        .any(|mark| line.contains(mark))
}

#[cfg(test)]
mod tests {
    use std::{env, fs, fs::File, io::Write, process::id};

    use super::{Follower, is_problem, tail};

    #[test]
    fn a_follower_gives_whole_lines_once_and_notices_a_new_file() {
        let path = env::temp_dir().join(format!("assettrack-follower-{}.log", id()));
        fs::write(&path, "old\n").unwrap();
        let mut follower = Follower::from_end(&path);
        let append = |text: &str| {
            File::options().append(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        };
        append("one\ntw");
        assert_eq!(follower.lines(), ["one"]);
        append("o\n");
        assert_eq!(follower.lines(), ["two"]);
        assert!(follower.lines().is_empty());
        fs::rename(&path, path.with_extension("old")).unwrap();
        fs::write(&path, "a new file, longer than the old one\n").unwrap();
        assert_eq!(follower.lines(), ["a new file, longer than the old one"]);
        assert_eq!(tail(&path.with_extension("old"), 2), "one\ntwo");
        fs::remove_file(&path).unwrap();
        fs::remove_file(path.with_extension("old")).unwrap();
    }

    #[test]
    fn warnings_and_worse_are_problems() {
        let problems = [
            r#"{"timestamp":"x","level":"WARN","fields":{"message":"late"}}"#,
            r#"{"time":"x","level":"error","msg":"gone"}"#,
            "2026-11-23 10:00:00.000 UTC [42] FATAL:  the database system is starting up",
            "thread 'main' panicked at src/main.rs:1:1:",
        ];
        for line in problems {
            assert!(is_problem(line), "{line}");
        }
        for line in [
            r#"{"level":"INFO","fields":{"message":"an error: none"}}"#,
            "LOG:  database system is ready",
            "",
        ] {
            assert!(!is_problem(line), "{line}");
        }
    }
}
