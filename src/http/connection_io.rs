//! A connection's bytes and answers, as reported to [`Connection`].

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::connections::{Connection, Room};

/// A stream that reports what it reads, and writes that the client does not take.
pub(super) struct ReportingStream {
    stream: TcpStream,
    connection: Arc<Connection>,
    is_write_blocked: bool,
}

impl ReportingStream {
    pub(super) fn new(stream: TcpStream, connection: Arc<Connection>) -> ReportingStream {
        ReportingStream { stream, connection, is_write_blocked: false }
    }

    fn report_write(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_pending() && !self.is_write_blocked {
            self.is_write_blocked = true;
            self.connection.write_blocked();
        }
        written
    }
}

impl AsyncRead for ReportingStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let free = buf.remaining();
        match this.connection.room_to_read(free) {
            Room::Now => {}
            Room::NextTurn => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Room::Never => return Poll::Ready(Err(ErrorKind::OutOfMemory.into())),
        }
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        match read {
            Poll::Pending => this.connection.read_blocked(),
            Poll::Ready(Ok(())) => this.connection.received(free - buf.remaining()),
            Poll::Ready(Err(_)) => {}
        }
        read
    }
}

impl AsyncWrite for ReportingStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.report_write(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.report_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Hyper flushes once it has written everything.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.is_write_blocked) {
            this.connection.written();
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// The body of an answer. Hyper drops it once the last part is in the write buffer.
pub(super) struct ReportingBody {
    body: Body,
    connection: Arc<Connection>,
}

impl ReportingBody {
    pub(super) fn new(body: Body, connection: Arc<Connection>) -> ReportingBody {
        ReportingBody { body, connection }
    }
}

impl HttpBody for ReportingBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ReportingBody {
    fn drop(&mut self) {
        self.connection.answered();
    }
}
