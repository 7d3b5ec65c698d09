//! The body as it came → plain Protobuf bytes, never more than a batch may have.

use crate::queue::{ENCODING_ZSTD, MAX_BATCH_BYTES};
use contracts::v1::DeadLetterReason;
use zstd::zstd_safe::{DCtx, get_error_name};

use super::Rejection;

/// What ZSTD_getErrorName says when the content does not fit the buffer.
const NO_ROOM: &str = "Destination buffer is too small";

/// Unpacks bodies. Keeps one context and one buffer of the size of the largest
/// batch, so a bomb can take no more memory than that.
pub struct Unpacker {
    context: DCtx<'static>,
    buffer: Vec<u8>,
}

impl Default for Unpacker {
    fn default() -> Self {
        Self { context: DCtx::create(), buffer: Vec::with_capacity(MAX_BATCH_BYTES) }
    }
}

impl Unpacker {
    /// The plain bytes of a body with this content encoding.
    ///
    /// # Errors
    /// Larger than 64 KiB when unpacked, an unknown encoding, or not what the
    /// encoding says.
    pub fn unpack<'a>(&'a mut self, encoding: Option<&str>, body: &'a [u8]) -> Result<&'a [u8], Rejection> {
        // Compression never makes a batch much larger, so more than this on
        // the wire need not be looked into.
        let limit = if encoding.is_some() {
            zstd::zstd_safe::compress_bound(MAX_BATCH_BYTES)
        } else {
            MAX_BATCH_BYTES
        };
        if body.len() > limit {
            return Err(too_large(&format!("{} bytes on the wire", body.len())));
        }
        match encoding {
            None | Some("") => Ok(body),
            Some(ENCODING_ZSTD) => {
                self.buffer.clear();
                match self.context.decompress(&mut self.buffer, body) {
                    Ok(_) => Ok(&self.buffer),
                    Err(code) if get_error_name(code) == NO_ROOM => Err(too_large("more when decompressed")),
                    Err(code) => Err(undecodable(&format!("zstd: {}", get_error_name(code)))),
                }
            }
            Some(other) => Err(undecodable(&format!("content encoding `{other}` is not known"))),
        }
    }
}

fn too_large(what: &str) -> Rejection {
    Rejection::new(
        DeadLetterReason::TooLarge,
        format!("body: {what}; a batch has at most {MAX_BATCH_BYTES} bytes"),
    )
}

fn undecodable(what: &str) -> Rejection {
    Rejection::new(DeadLetterReason::Undecodable, format!("body: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(plain: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(plain, 1).unwrap()
    }

    #[test]
    fn bodies_are_unpacked_within_the_limit() {
        let mut unpacker = Unpacker::default();
        let most = vec![7; MAX_BATCH_BYTES];
        assert_eq!(unpacker.unpack(None, &most).unwrap(), most);
        assert_eq!(unpacker.unpack(Some("zstd"), &packed(&most)).unwrap(), most);
        assert_eq!(unpacker.unpack(Some("zstd"), &packed(b"again")).unwrap(), b"again");
    }

    #[test]
    fn what_is_no_body_says_why() {
        use DeadLetterReason::{TooLarge, Undecodable};
        let bomb = packed(&vec![0; 64 << 20]);
        assert!(bomb.len() < 16_384, "the bomb itself is small: {}", bomb.len());
        let mut torn = packed(&[1, 2, 3].repeat(1000));
        torn.pop();
        let table: [(Option<&str>, Vec<u8>, DeadLetterReason); 6] = [
            (None, vec![0; MAX_BATCH_BYTES + 1], TooLarge),
            (Some("zstd"), packed(&vec![0; MAX_BATCH_BYTES + 1]), TooLarge),
            (Some("zstd"), bomb, TooLarge),
            (Some("zstd"), torn, Undecodable),
            (Some("zstd"), b"not zstd".to_vec(), Undecodable),
            (Some("gzip"), b"x".to_vec(), Undecodable),
        ];
        let mut unpacker = Unpacker::default();
        for (encoding, body, reason) in table {
            let rejection = unpacker.unpack(encoding, &body).unwrap_err();
            assert_eq!(rejection.reason, reason, "{rejection:?}");
            assert!(unpacker.buffer.capacity() <= MAX_BATCH_BYTES);
        }
    }
}
