//! One HTTP request: is that service ready, what does it say?

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// Time for each of connect, write and read.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Most of an answer that is read: an exporter's metrics have hundreds of KiB.
const MOST_BYTES: u64 = 8 * 1024 * 1024;
/// Longest reason that is shown.
const REASON: usize = 300;

/// Asks `/readyz` on a loopback port. An error says why it is not ready.
pub fn ready(port: u16) -> Result<(), String> {
    let answer =
        get(port, "/readyz").map_err(|error| format!("/readyz on port {port} does not answer: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        Some(status) => {
            Err(format!("/readyz says {status}: {}", body.trim().chars().take(REASON).collect::<String>()))
        }
        None => Err("/readyz does not speak HTTP".to_owned()),
    }
}

/// Body of the answer to `GET path`; none unless the answer is 200.
pub fn body(port: u16, path: &str) -> Option<String> {
    let answer = get(port, path).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.split(' ').nth(1) == Some("200")).then(|| body.to_owned())
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    use super::ready;

    fn answering(answer: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        port
    }

    #[test]
    fn only_200_is_ready_and_the_reason_is_told() {
        assert_eq!(ready(answering("HTTP/1.1 200 OK\r\n\r\nok")), Ok(()));
        let reason = ready(answering("HTTP/1.1 503 Service Unavailable\r\n\r\nbroker: away")).unwrap_err();
        assert_eq!(reason, "/readyz says 503: broker: away");
        assert!(ready(answering("hello")).is_err());
    }
}
