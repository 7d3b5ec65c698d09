//! Verifying the inventory: differences to the output, progress to stderr.

use std::{io::Write, time::Duration};

use contracts::v1::{
    Difference, VerifyInventoryRequest, VerifyInventoryResponse,
    integrity_service_client::IntegrityServiceClient,
};

use crate::{
    args::VerifyArguments,
    failure::Failure,
    gateway::{Gateway, MAX_PAGE_BYTES},
    output::Output,
};

/// Longest silence. The contract promises an answer each second.
const SILENCE: Duration = Duration::from_secs(60);

/// Verifies and shows what differs as it is found.
///
/// # Errors
/// [`Failure::Differs`] if anything does, and those of the call.
pub async fn verify<W: Write>(
    arguments: &VerifyArguments,
    gateway: &Gateway,
    output: &mut Output<W>,
) -> Result<(), Failure> {
    let node = arguments.node.as_deref().map_or(String::new(), |node| {
        if node.contains('/') { node.to_owned() } else { format!("nodes/{node}") }
    });
    let mut answers = gateway
        .open(VerifyInventoryRequest { node }, async |channel, request| {
            IntegrityServiceClient::new(channel)
                .max_decoding_message_size(MAX_PAGE_BYTES)
                .verify_inventory(request)
                .await
        })
        .await?;
    let mut differences = 0;
    let mut progress = Progress::default();
    while let Some(answer) = answers.next(SILENCE).await? {
        let VerifyInventoryResponse { differences: found, done, .. } = &answer;
        if !found.is_empty() {
            differences += found.len() as u64;
            show(output, found)?;
        }
        progress.tell(&answer);
        if *done {
            return if differences == 0 { Ok(()) } else { Err(Failure::Differs(differences)) };
        }
    }
    Err(answers.cut())
}

fn show<W: Write>(output: &mut Output<W>, found: &[Difference]) -> Result<(), Failure> {
    match output.messages("Difference", found) {
        // Who looks at the first few has seen that something differs.
        Err(failure) if failure.is_closed_pipe() => Err(Failure::Differs(found.len() as u64)),
        shown => shown,
    }
}

/// A line at each tenth, and at the end.
#[derive(Debug, Default)]
struct Progress {
    tenths: i64,
}

impl Progress {
    fn tell(&mut self, answer: &VerifyInventoryResponse) {
        if let Some(line) = self.line(answer) {
            // Nothing is lost if nobody reads it.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    fn line(&mut self, answer: &VerifyInventoryResponse) -> Option<String> {
        let VerifyInventoryResponse { verified_assets, total_assets, verified_nodes, total_nodes, .. } =
            answer;
        let tenths = verified_assets * 10 / total_assets.max(&1);
        let further = tenths > self.tenths;
        self.tenths = self.tenths.max(tenths);
        (further || answer.done).then(|| {
            format!(
                "verified {verified_assets} of {total_assets} assets, {verified_nodes} of {total_nodes} nodes"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_a_line_at_each_tenth() {
        let mut progress = Progress::default();
        let answer = |verified_assets, total_assets| VerifyInventoryResponse {
            verified_assets,
            total_assets,
            total_nodes: 2,
            ..VerifyInventoryResponse::default()
        };
        let lines: Vec<bool> = [(0, 0), (0, 100), (9, 100), (10, 100), (15, 100), (99, 100), (99, 100)]
            .map(|(verified, total)| progress.line(&answer(verified, total)).is_some())
            .to_vec();
        assert_eq!(lines, [false, false, false, true, false, true, false]);
        let last = VerifyInventoryResponse { done: true, ..answer(99, 100) };
        assert_eq!(progress.line(&last).as_deref(), Some("verified 99 of 100 assets, 0 of 2 nodes"));
    }
}
