//! Waiting for a condition, with a deadline, in place of sleeping.

use std::time::{Duration, Instant};

/// Time between two looks. Short against any deadline, long against a look.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `condition` is true.
///
/// # Panics
/// When it is not within `deadline`, naming `what` was waited for. A condition
/// that hangs is cut off at the deadline too.
pub async fn wait_until(deadline: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    wait_for(deadline, what, async || condition().await.then_some(())).await;
}

/// Waits until `look` finds something, and returns it.
///
/// # Panics
/// When it does not within `deadline`, naming `what` was waited for. A look that
/// hangs is cut off at the deadline too.
pub async fn wait_for<T>(deadline: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    let found = tokio::time::timeout(deadline, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    })
    .await;
    match found {
        Ok(found) => found,
        Err(_) => panic!("waited {:.1} s for {what}, in vain", start.elapsed().as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{wait_for, wait_until};

    #[tokio::test]
    async fn returns_what_a_later_look_finds() {
        let mut looks = 0;
        let found = wait_for(Duration::from_secs(5), "the third look", async || {
            looks += 1;
            (looks == 3).then_some("found")
        })
        .await;
        assert_eq!((found, looks), ("found", 3));
    }

    #[tokio::test]
    #[should_panic(expected = "for a condition that hangs, in vain")]
    async fn a_hanging_condition_is_cut_off() {
        wait_until(Duration::from_secs(1), "a condition that hangs", async || {
            std::future::pending::<()>().await;
            true
        })
        .await;
    }
}
