//! TLS for Nix clients: HTTP/2 and HTTP/1.1 by ALPN. Who speaks plaintext is told so, in the HTTP that he speaks.

use std::io;

use ncps_runtime::tls::{Opening, Tls, TlsError, TlsFiles};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

const MIB: usize = 1 << 20;

/// Reads the files.
///
/// # Errors
/// Where they can't be used.
pub(crate) fn load(files: &TlsFiles) -> Result<Tls, TlsError> {
    Tls::load(files, None, &["h2", "http/1.1"])
}

/// The handshake, if one begins.
pub(super) async fn accept(tls: &Tls, mut stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    match Tls::opening(&stream).await? {
        Some(Opening::Handshake) => tls.accept(stream).await,
        Some(Opening::Plaintext) => {
            refuse_plaintext(&mut stream).await?;
            Err(io::Error::other("plaintext on a TLS port"))
        }
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// What was sent is read first: closing on unread bytes is a reset, which overtakes the answer.
async fn refuse_plaintext(stream: &mut TcpStream) -> io::Result<()> {
    const ANSWER: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Length: 36\r\nConnection: close\r\n\r\nthis port speaks TLS: use https://\r\n";
    stream.write_all(ANSWER.as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = [0; 4096];
    let mut read = 0;
    while read < MIB {
        match stream.read(&mut rest).await? {
            0 => break,
            n => read += n,
        }
    }
    Ok(())
}
