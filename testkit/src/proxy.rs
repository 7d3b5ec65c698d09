//! A TCP proxy that cuts connections, or lets them go silent.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Carries,
    Silent,
    Cut,
}

/// Forwards to one address.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
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
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *follow.borrow() == Line::Cut {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&upstream).await else { continue };
                let ((client_in, client_out), (server_in, server_out)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(carry(client_in, server_out, follow.subscribe()));
                tokio::spawn(carry(server_in, client_out, follow.subscribe()));
            }
        });
        Self { address, line }
    }

    /// Ends all connections, and refuses new ones until it carries again.
    pub fn cut(&self) {
        self.line.send_replace(Line::Cut);
    }

    /// All connections, new ones too, carry nothing any more, and stay open.
    pub fn silence(&self) {
        self.line.send_replace(Line::Silent);
    }

    /// New connections are carried. Silent ones stay silent: what was on its
    /// way is lost.
    pub fn carry(&self) {
        self.line.send_replace(Line::Carries);
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut line: watch::Receiver<Line>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let state = *line.borrow_and_update();
        match state {
            Line::Carries => {}
            Line::Silent => return std::future::pending().await,
            Line::Cut => return,
        }
        tokio::select! {
            biased;
            _ = line.changed() => {}
            read = from.read(&mut buffer) => {
                let Ok(count @ 1..) = read else { return };
                if to.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
