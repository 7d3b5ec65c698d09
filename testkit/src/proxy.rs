//! A TCP proxy that cuts connections, lets them go silent, or makes them slow.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Carries,
    /// Holds up what it carries for so long, in each direction.
    Slow(Duration),
    Silent,
    Cut,
}

/// Forwards to one address.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    upstream: Arc<Mutex<String>>,
    line: watch::Sender<Line>,
}

impl Proxy {
    /// Starts to forward to `upstream`, `host:port`.
    ///
    /// # Panics
    /// When the machine has no free port.
    pub async fn start(upstream: String) -> Self {
        let listener = crate::listener().await;
        let address = match listener.local_addr() {
            Ok(address) => address,
            Err(error) => panic!("a bound listener has no address: {error}"),
        };
        let line = watch::Sender::new(Line::Carries);
        let follow = line.clone();
        let upstream = Arc::new(Mutex::new(upstream));
        let target = upstream.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *follow.borrow() == Line::Cut {
                    continue;
                }
                let upstream = target.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let Ok(server) = TcpStream::connect(&upstream).await else { continue };
                // A proxy must not add the delays of Nagle's algorithm to those it is asked for.
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let ((client_in, client_out), (server_in, server_out)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(carry(client_in, server_out, follow.subscribe()));
                tokio::spawn(carry(server_in, client_out, follow.subscribe()));
            }
        });
        Self { address, upstream, line }
    }

    /// New connections go to another address from now on.
    pub fn redirect(&self, upstream: String) {
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) = upstream;
    }

    /// Ends all connections, and refuses new ones until it carries again.
    pub fn cut(&self) {
        self.line.send_replace(Line::Cut);
    }

    /// All connections, new ones too, carry nothing any more, and stay open.
    pub fn silence(&self) {
        self.line.send_replace(Line::Silent);
    }

    /// All connections, new ones too, hold up what they carry for `delay` in
    /// each direction.
    pub fn slow(&self, delay: Duration) {
        self.line.send_replace(Line::Slow(delay));
    }

    /// Connections are carried at once. Silent ones stay silent: what was on
    /// its way is lost.
    pub fn carry(&self) {
        self.line.send_replace(Line::Carries);
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: watch::Receiver<Line>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let state = *line.borrow_and_update();
        let delay = match state {
            Line::Carries => Duration::ZERO,
            Line::Slow(delay) => delay,
            Line::Silent => return std::future::pending().await,
            Line::Cut => return,
        };
        tokio::select! {
            biased;
            _ = line.changed() => {}
            read = from.read(&mut buffer) => {
                let Ok(count @ 1..) = read else { return };
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                if to.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
