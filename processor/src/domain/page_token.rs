//! Page tokens: where the next page begins, signed, and bound to the question
//! that was asked.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const MAC_BYTES: usize = 16;
/// More than any token of ours has.
const MAX_BYTES: usize = 8192;

/// Signs page tokens with a key that all replicas share.
#[derive(Clone)]
pub struct PageTokens {
    key: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Payload {
    /// Hash of method and question.
    question: String,
    /// Sort key of the last row of the page before.
    after: Vec<String>,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not one of ours, or altered.
    #[error("is not a page token of this inventory")]
    Foreign,
    /// Made for another question.
    #[error("belongs to a request with other fields; send the same fields with every page")]
    OtherQuestion,
}

impl PageTokens {
    /// Takes the shared key.
    pub fn new(key: Vec<u8>) -> Self {
        Self { key }
    }

    /// A token for the page that begins after the row with this sort key.
    pub fn issue(&self, question: &[&str], after: Vec<String>) -> String {
        let payload = Payload { question: hash(question), after };
        let mut bytes = serde_json::to_vec(&payload).unwrap_or_default();
        let mac = self.mac(&bytes);
        bytes.extend_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The sort key in a token of `parts` parts; `None` for the empty token:
    /// the first page.
    ///
    /// # Errors
    /// The token is not ours, or belongs to another question.
    pub fn open(
        &self,
        token: &str,
        question: &[&str],
        parts: usize,
    ) -> Result<Option<Vec<String>>, TokenError> {
        if token.is_empty() {
            return Ok(None);
        }
        if token.len() > MAX_BYTES {
            return Err(TokenError::Foreign);
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Foreign)?;
        let split = bytes.len().checked_sub(MAC_BYTES).ok_or(TokenError::Foreign)?;
        let (bytes, mac) = bytes.split_at(split);
        let mut expected = self.hmac();
        expected.update(bytes);
        expected.verify_truncated_left(mac).map_err(|_| TokenError::Foreign)?;
        let payload: Payload = serde_json::from_slice(bytes).map_err(|_| TokenError::Foreign)?;
        if payload.question != hash(question) || payload.after.len() != parts {
            return Err(TokenError::OtherQuestion);
        }
        Ok(Some(payload.after))
    }

    fn hmac(&self) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length")
    }

    fn mac(&self, bytes: &[u8]) -> Vec<u8> {
        let mut mac = self.hmac();
        mac.update(bytes);
        mac.finalize().into_bytes()[..MAC_BYTES].to_vec()
    }
}

fn hash(question: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in question {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    URL_SAFE_NO_PAD.encode(&hash.finalize()[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_with_its_own_question_alone() {
        let tokens = PageTokens::new(vec![7; 32]);
        let token = tokens.issue(&["assets", "kind=PACKAGE"], vec!["bash".to_owned(), "id".to_owned()]);
        let open = |token: &str, question: &[&str]| tokens.open(token, question, 2);
        assert_eq!(open(&token, &["assets", "kind=PACKAGE"]).unwrap().unwrap()[0], "bash");
        assert_eq!(open("", &["assets", ""]), Ok(None));
        assert_eq!(open(&token, &["assets", "kind=DISK"]), Err(TokenError::OtherQuestion));
        assert_eq!(open(&token, &["assetskind=PACKAGE", ""]), Err(TokenError::OtherQuestion));
        for place in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(open(&altered, &["assets", "kind=PACKAGE"]).is_err(), "{place}");
        }
        let other = PageTokens::new(vec![8; 32]);
        assert_eq!(other.open(&token, &["assets", "kind=PACKAGE"], 2), Err(TokenError::Foreign));
        for wrong in ["!", "AAAA", &"A".repeat(9000)] {
            assert_eq!(open(wrong, &["assets", ""]), Err(TokenError::Foreign), "{wrong}");
        }
    }
}
