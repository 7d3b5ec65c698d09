//! What the user sees while a command works.

use std::time::{Duration, Instant};

/// Prints what is going on and how long each part took.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    start: Instant,
}

impl Progress {
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since the command began.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Announces something that takes a while.
    pub fn say(&self, text: &str) {
        println!("  {text}");
    }

    /// Does one part and prints its time when it succeeded.
    pub fn part<T, E>(&self, what: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let start = Instant::now();
        let done = work()?;
        println!("  {what:<34} {:>7.1} s", start.elapsed().as_secs_f64());
        Ok(done)
    }
}
