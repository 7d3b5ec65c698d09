//! What a fleet would publish, as a file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::agent::Agent;
use super::parcel::Content;

/// Writes all batches of the agents, which take turns, each as Protobuf writes
/// messages with their length before them.
///
/// # Errors
/// The file cannot be written.
pub fn record(path: &Path, agents: &mut [Agent]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut is_busy = true;
    while is_busy {
        is_busy = false;
        for agent in agents.iter_mut() {
            let Some(parcel) = agent.next() else { continue };
            is_busy = true;
            if matches!(parcel.content, Content::Batch(_)) {
                let mut length = Vec::with_capacity(10);
                prost::encode_length_delimiter(parcel.body.len(), &mut length)?;
                file.write_all(&length)?;
                file.write_all(&parcel.body)?;
            }
        }
    }
    file.flush()
}
