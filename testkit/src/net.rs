//! Addresses and a look at an admin endpoint.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Longest time a request to a local admin endpoint may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A listener on a free loopback port, for a service that runs in the test.
///
/// # Panics
/// When the machine has no free port.
pub async fn listener() -> TcpListener {
    match TcpListener::bind(("127.0.0.1", 0)).await {
        Ok(listener) => listener,
        Err(error) => panic!("cannot listen on a free loopback port: {error}"),
    }
}

/// A loopback address that is free now, for a service process that binds it
/// itself. Another process may be quicker: prefer [`listener`] in process.
///
/// # Panics
/// When the machine has no free port.
pub async fn free_address() -> SocketAddr {
    match listener().await.local_addr() {
        Ok(address) => address,
        Err(error) => panic!("a bound listener has no address: {error}"),
    }
}

/// `GET path` by HTTP/1.1; answers status and body.
///
/// # Errors
/// No connection, no HTTP answer, or none within five seconds.
pub async fn http_get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    http_send(address, "GET", path, "").await
}

/// A request by HTTP/1.1, with JSON unless `body` is empty; answers status and body.
///
/// # Errors
/// No connection, no HTTP answer, or none within five seconds.
pub async fn http_send(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> io::Result<(u16, String)> {
    let content = match body.len() {
        0 => String::new(),
        length => format!("content-type: application/json\r\ncontent-length: {length}\r\n"),
    };
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{content}\r\n{body}");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        parse_answer(&String::from_utf8_lossy(&answer))
    };
    tokio::time::timeout(REQUEST_TIMEOUT, exchange).await?
}

fn parse_answer(answer: &str) -> io::Result<(u16, String)> {
    let not_http = || io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(not_http)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(not_http)?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{http_get, listener, parse_answer};

    #[test]
    fn an_answer_is_status_and_body_or_an_error() {
        assert_eq!(
            parse_answer("HTTP/1.1 503 x\r\na: b\r\n\r\nnot yet").unwrap(),
            (503, "not yet".to_owned())
        );
        for garbage in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0 x\r\n\r\n", "\r\n\r\n"] {
            assert!(parse_answer(garbage).is_err(), "{garbage:?}");
        }
    }

    #[tokio::test]
    async fn a_request_goes_over_the_wire() {
        let listener = listener().await;
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nready").await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        assert_eq!(http_get(address, "/readyz").await.unwrap(), (200, "ready".to_owned()));
        assert!(server.await.unwrap().starts_with("GET /readyz HTTP/1.1\r\n"));
    }
}
