//! A connection to a mail server that reads replies up to a length.
//!
//! lettre looks at a line when its end has come: one without an end would fill the memory. Under TLS lines can't be
//! seen from here, so what is counted is all that comes after something was sent; a client that sends again has
//! read the reply.
//!
//! lettre takes a reply that is not UTF-8 for a broken connection, though its three digits say all that counts. In clear
//! text, other bytes than ASCII's are made question marks.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes between two sendings: a reply, or a step of a TLS handshake. Certificates make the longest ones.
const LONGEST: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Replies {
    stream: TcpStream,
    read: usize,
    /// What comes is text, and not TLS.
    clear: Arc<AtomicBool>,
}

impl Replies {
    pub(super) fn new(stream: TcpStream, clear: Arc<AtomicBool>) -> Self {
        Self { stream, read: 0, clear }
    }
}

impl AsyncTokioStream for Replies {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for Replies {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read > LONGEST {
            let fault = format!("the server's reply does not end within {} KiB", LONGEST >> 10);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault)));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.read += buffer.filled().len() - before;
        if self.clear.load(Ordering::Relaxed) {
            buffer.filled_mut()[before..]
                .iter_mut()
                .filter(|byte| !byte.is_ascii())
                .for_each(|byte| *byte = b'?');
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replies {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.read = 0;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
