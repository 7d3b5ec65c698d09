//! Which version of HTTP a connection speaks, by its first bytes. Ours instead
//! of hyper's automatic builder, which waits for these bytes for ever.

use std::{
    io::{self, Cursor},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncReadExt, Chain, Join, ReadHalf, WriteHalf};

/// How an HTTP/2 connection begins (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection with the bytes that were read from it put back.
pub type Replayed<S> = Join<Chain<Cursor<Vec<u8>>, ReadHalf<S>>, WriteHalf<S>>;

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.0 or 1.1.
    One,
    /// HTTP/2, without TLS.
    Two,
}

/// Reads as much as it takes to know.
///
/// # Errors
/// The connection broke or closed, or said nothing within `patience`.
pub async fn version<S>(stream: S, patience: Duration) -> io::Result<(HttpVersion, Replayed<S>)>
where
    S: AsyncRead + tokio::io::AsyncWrite,
{
    let (mut read, write) = tokio::io::split(stream);
    let (version, seen) = tokio::time::timeout(patience, first_bytes(&mut read)).await??;
    Ok((version, tokio::io::join(Cursor::new(seen).chain(read), write)))
}

async fn first_bytes(read: &mut (impl AsyncRead + Unpin)) -> io::Result<(HttpVersion, Vec<u8>)> {
    let mut seen = Vec::with_capacity(PREFACE.len());
    while seen.len() < PREFACE.len() {
        let before = seen.len();
        read.take((PREFACE.len() - before) as u64).read_buf(&mut seen).await?;
        if seen.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !PREFACE.starts_with(&seen) {
            return Ok((HttpVersion::One, seen));
        }
    }
    Ok((HttpVersion::Two, seen))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn the_first_bytes_decide_and_are_not_lost() {
        for (sent, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], HttpVersion::One),
            (b"P", HttpVersion::One),
            (b"PATCH / HTTP/1.1\r\n", HttpVersion::One),
            (b"PRI * HTTP/1.1\r\n", HttpVersion::One),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", HttpVersion::Two),
        ] {
            for step in [1, 7, sent.len()] {
                let (mut client, server) = duplex(64);
                let sniffing = tokio::spawn(version(server, PATIENCE));
                for piece in sent.chunks(step) {
                    client.write_all(piece).await.unwrap();
                }
                if sent == b"P" {
                    client.write_all(b"OST").await.unwrap();
                }
                let (found, mut stream) = sniffing.await.unwrap().unwrap();
                assert_eq!(found, expected);
                let mut replayed = vec![0; sent.len()];
                stream.read_exact(&mut replayed).await.unwrap();
                assert_eq!(replayed, sent);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_is_given_up() {
        let (_client, server) = duplex(64);
        let error = version(server, PATIENCE).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let (client, server) = duplex(64);
        drop(client);
        let error = version(server, PATIENCE).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
