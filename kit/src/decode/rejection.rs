//! Why a message can never be applied.

use contracts::v1::DeadLetterReason;

/// Most bytes of a rejection's detail (ingest_service.proto).
const MAX_DETAIL_BYTES: usize = 2048;

/// A message that can never be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its class, for counting and filtering.
    pub reason: DeadLetterReason,
    /// What exactly, naming the field; at most 2,048 bytes.
    pub detail: String,
}

impl Rejection {
    /// A rejection with its detail, cut to what the contract allows.
    pub fn new(reason: DeadLetterReason, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        detail.truncate(detail.floor_char_boundary(MAX_DETAIL_BYTES));
        Self { reason, detail }
    }

    /// A field that breaks its rule.
    pub fn field(path: &str, problem: impl std::fmt::Display) -> Self {
        Self::new(DeadLetterReason::InvalidField, format!("{path}: {problem}"))
    }

    /// A node identity that is missing, malformed or contradicts itself.
    pub fn node(path: &str, problem: impl std::fmt::Display) -> Self {
        Self::new(DeadLetterReason::InvalidNode, format!("{path}: {problem}"))
    }
}
