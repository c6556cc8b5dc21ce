//! The stream between the library and the relay. It corrects two faults of the library (lettre 0.11.23).
//!
//! - lettre takes no reply that lacks a text, though RFC 5321 §4.2 requires it. Such a reply behind the text of an e-mail
//!   would leave an accepted e-mail in doubt. So each line reaches lettre in the one form that it reads.
//! - lettre keeps bytes that follow a reply, also across STARTTLS: plain text would answer for the relay inside TLS
//!   (RFC 3207 §6). So lettre gets one line at a time, and a command fails if bytes are here that no command asked for.

use std::fmt::{self, Debug, Formatter};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// RFC 5321 §4.5.3.1.5. The rest of a longer line is dropped: the reply code is at its start.
const LINE_MAX: usize = 512;
/// Further lines of a reply are dropped, except its last: the library reads a reply anew with each line.
const LINES_MAX: usize = 64;
/// A longer reply is no reply.
const REPLY_MAX: usize = 64 * 1024;

/// Nothing of the command, or of the text, was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unwritten {
    #[error("bytes are here that answer no command")]
    Unasked,
    #[error("the mail server closed the connection")]
    Closed,
}

/// A connection to a relay, as the library may see it.
pub(super) struct ReplyStream<S> {
    stream: S,
    peer: SocketAddr,
    chunk: Chunk,
    /// The beginning of the line that is not complete yet.
    line: Vec<u8>,
    reply_bytes: usize,
    reply_lines: usize,
    /// A complete line in the library's form, and how much of it the library has read.
    ready: Vec<u8>,
    read: usize,
    /// A reply is due.
    asked: bool,
}

/// Bytes as received.
struct Chunk {
    bytes: Box<[u8; 1024]>,
    start: usize,
    end: usize,
}

impl<S> ReplyStream<S> {
    /// A connection that begins with the relay's greeting.
    pub(super) fn new(stream: S, peer: SocketAddr) -> ReplyStream<S> {
        let chunk = Chunk { bytes: Box::new([0; 1024]), start: 0, end: 0 };
        let (line, ready) = (Vec::new(), Vec::new());
        ReplyStream { stream, peer, chunk, line, reply_bytes: 0, reply_lines: 0, ready, read: 0, asked: true }
    }

    /// A connection after STARTTLS. The relay does not greet again, but the library expects it.
    pub(super) fn after_starttls(stream: S, peer: SocketAddr) -> ReplyStream<S> {
        ReplyStream { ready: b"220 .\r\n".to_vec(), asked: false, ..ReplyStream::new(stream, peer) }
    }

    fn has_unread(&self) -> bool {
        self.read < self.ready.len() || self.chunk.start < self.chunk.end || !self.line.is_empty()
    }

    /// Moves received bytes into the line, to its end. True if the line is complete.
    fn complete_line(&mut self) -> io::Result<bool> {
        let received = &self.chunk.bytes[self.chunk.start..self.chunk.end];
        let end = received.iter().position(|&byte| byte == b'\n');
        let taken = &received[..end.unwrap_or(received.len())];
        self.line.extend(taken.iter().take(LINE_MAX - self.line.len()));
        let length = taken.len() + usize::from(end.is_some());
        self.chunk.start += length;
        self.reply_bytes += length;
        if self.reply_bytes > REPLY_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "the reply is too long"));
        }
        Ok(end.is_some())
    }

    /// Writes the line in the form that the library reads: code, space or hyphen, a text in ASCII, CRLF.
    fn rewrite_line(&mut self) {
        let line = self.line.trim_ascii_end();
        let (code, rest) = line.split_at(line.len().min(3));
        let continues = rest.first() == Some(&b'-');
        self.reply_lines += 1;
        if continues && self.reply_lines > LINES_MAX {
            return self.line.clear();
        }
        let separator: &[u8] = if continues { b"-" } else { b" " };
        let text = match rest.strip_prefix(separator) {
            // The library finds its fault.
            None if !rest.is_empty() => return self.hand_over(line.to_vec(), false),
            text => text.unwrap_or_default(),
        };
        let text: &[u8] = if text.trim_ascii().is_empty() { b"." } else { text };
        self.hand_over([code, separator, text].concat(), continues);
    }

    fn hand_over(&mut self, mut line: Vec<u8>, continues: bool) {
        for byte in line.iter_mut().filter(|byte| !matches!(byte, b' '..=b'~' | b'\t')) {
            *byte = b'?';
        }
        line.extend(b"\r\n");
        (self.ready, self.read) = (line, 0);
        self.line.clear();
        if !continues {
            (self.reply_bytes, self.reply_lines, self.asked) = (0, 0, false);
        }
    }
}

impl<S: AsyncRead + Unpin> ReplyStream<S> {
    /// Receives bytes; none at the end of the connection.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(&mut self.chunk.bytes[..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        (self.chunk.start, self.chunk.end) = (0, buffer.filled().len());
        Poll::Ready(Ok(self.chunk.end))
    }

    /// A command may be written only if each reply before it was read, and nothing follows.
    fn check_nothing_unasked(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let unwritten = |why| Err(io::Error::other(why));
        if self.has_unread() {
            return unwritten(Unwritten::Unasked);
        }
        match self.poll_receive(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(1..)) => unwritten(Unwritten::Unasked),
            Poll::Ready(Ok(0) | Err(_)) => unwritten(Unwritten::Closed),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ReplyStream<S> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.read == self.ready.len() {
            if self.complete_line()? {
                self.rewrite_line();
            } else if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        let unread = &self.ready[self.read..];
        let length = unread.len().min(buffer.remaining());
        buffer.put_slice(&unread[..length]);
        self.read += length;
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.asked {
            self.check_nothing_unasked(cx)?;
            self.asked = true;
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
}

/// A connection that is lent to the library, which does not give it back. Nothing else uses it meanwhile.
pub(super) struct Lent<S>(Arc<Mutex<ReplyStream<S>>>);

impl<S> Lent<S> {
    pub(super) fn new(stream: ReplyStream<S>) -> Lent<S> {
        Lent(Arc::new(Mutex::new(stream)))
    }

    /// The same connection for the library.
    pub(super) fn lend(&self) -> Box<Lent<S>> {
        Box::new(Lent(Arc::clone(&self.0)))
    }

    /// The stream, if the library has dropped it and nothing is left of what was received.
    pub(super) fn into_inner(self) -> Result<S, Unwritten> {
        let stream = Arc::into_inner(self.0).ok_or(Unwritten::Unasked)?;
        let stream = stream.into_inner().unwrap_or_else(PoisonError::into_inner);
        if stream.has_unread() { Err(Unwritten::Unasked) } else { Ok(stream.stream) }
    }

    fn stream(&self) -> MutexGuard<'_, ReplyStream<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Lent<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lent<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream().stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> AsyncTokioStream for Lent<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.stream().peer)
    }
}

/// Without the bytes: they may hold an address.
impl<S> Debug for Lent<S> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Lent")
    }
}
