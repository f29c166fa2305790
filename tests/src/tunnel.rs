//! An HTTP proxy for HTTPS alone: joins who says CONNECT with one target, whatever name was asked for, as a proxy
//! does that can reach what its clients can not.
//!
//! Knows nothing of what goes through it. Absent on purpose: logins, and requests passed on in plain text.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::http1::{Wire, invalid};

/// A running proxy. Dropped, it accepts nobody any more.
#[derive(Debug)]
pub struct Tunnel {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    accept: JoinHandle<()>,
}

impl Tunnel {
    /// To this target, from a new port.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let accept = tokio::spawn(accept(listener, target, Arc::clone(&asked)));
        Self { port, asked, accept }
    }

    /// Its URL, by a name: what a variable such as `https_proxy` holds.
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// What it was asked for so far: the first line of each request.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, asked: Arc<Mutex<Vec<String>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        // How a connection ends is for its two sides to see.
        tokio::spawn(join(stream, target, Arc::clone(&asked)));
    }
}

async fn join(stream: TcpStream, target: SocketAddr, asked: Arc<Mutex<Vec<String>>>) -> io::Result<()> {
    let mut near = Wire::new(stream);
    let Some(head) = near.read_head().await? else { return Ok(()) };
    let connects = head.first_line.starts_with("CONNECT ");
    asked.lock().push(head.first_line);
    if !connects {
        return near.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n").await;
    }
    let mut far = TcpStream::connect(target).await?;
    near.write(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    if !near.buf.is_empty() {
        return Err(invalid("a client that speaks before the tunnel is there"));
    }
    tokio::io::copy_bidirectional(&mut near.stream, &mut far).await?;
    Ok(())
}
