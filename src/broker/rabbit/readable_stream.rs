//! A connection on which every message can be read: its stream makes content headers readable before `lapin` sees them.

use std::future::ready;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready as ready_now};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::{DummyIO, RuntimeParts};
use async_rs::{Runtime, Tokio, TokioRuntime};
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::tcp::AMQPUriTcpExt as _;
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};

use super::readable_properties::made_readable;

const CHUNK_BYTES: usize = 64 * 1024;
/// Type, AMQP channel and size of a frame; after the payload comes one byte more.
const FRAME_HEAD_BYTES: usize = 7;
const CONTENT_HEADER: u8 = 2;
/// The last type of a frame. Anything else is no frame: the server's answer to another version of the protocol.
const FRAME_TYPE_MAX: u8 = 8;
/// Far above RabbitMQ's default of 128 KiB. `lapin` refuses a longer frame.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Set at each message that had to be changed to be readable.
#[derive(Clone, Debug, Default)]
pub(super) struct Mended(Arc<AtomicBool>);

impl Mended {
    /// Was a message changed since the last call?
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

pub(super) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    mended: Mended,
) -> lapin::Result<Connection> {
    let tokio = TokioRuntime::tokio_current();
    let runtime = Runtime::new(RuntimeParts::new(Tokio::current(), ReadableReactor(Tokio::current())));
    let connect = async move |uri: AMQPUri, _: Runtime<ReadableRuntime>| -> lapin::Result<Readable> {
        let inner = uri.connect_async(&tokio).await?;
        Ok(AsyncTcpStream::Plain(ReadableStream::new(inner, mended.clone())))
    };
    Connection::connector(uri, runtime, connect, properties).await
}

type ReadableRuntime = RuntimeParts<Tokio, ReadableReactor>;
type Readable = AsyncTcpStream<ReadableStream>;
type Inner = AsyncTcpStream<<TokioRuntime as Reactor>::TcpStream>;

/// The reactor of `tokio`, for `lapin`, which connects by the closure above.
#[derive(Clone, Debug)]
struct ReadableReactor(Tokio);

impl Reactor for ReadableReactor {
    type TcpStream = ReadableStream;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<DummyIO, _>(ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        _: SocketAddr,
    ) -> impl Future<Output = io::Result<ReadableStream>> + Send + 'static {
        ready(Err(ErrorKind::Unsupported.into()))
    }
}

struct ReadableStream {
    inner: Inner,
    frames: Frames,
    chunk: Box<[u8]>,
    mended: Mended,
}

impl ReadableStream {
    fn new(inner: Inner, mended: Mended) -> ReadableStream {
        let chunk = vec![0; CHUNK_BYTES].into_boxed_slice();
        ReadableStream { inner, frames: Frames::default(), chunk, mended }
    }
}

impl AsyncRead for ReadableStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        while this.frames.whole.is_empty() && !buffer.is_empty() {
            match ready_now!(Pin::new(&mut this.inner).poll_read(cx, &mut this.chunk))? {
                0 => return Poll::Ready(Ok(0)),
                count => {
                    if this.frames.add(&this.chunk[..count]) {
                        this.mended.0.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
        let count = this.frames.whole.len().min(buffer.len());
        buffer[..count].copy_from_slice(&this.frames.whole[..count]);
        this.frames.whole.drain(..count);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for ReadableStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, slices)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_close(cx)
    }
}

/// The bytes read: whole frames, whose content headers are readable, and the beginning of the next one.
#[derive(Default)]
struct Frames {
    whole: Vec<u8>,
    begun: Vec<u8>,
}

impl Frames {
    /// `true` if a content header was made readable.
    fn add(&mut self, bytes: &[u8]) -> bool {
        self.begun.extend(bytes);
        let (mut at, mut is_mended) = (0, false);
        while let Some(length) = next_length(&self.begun[at..]) {
            is_mended |= add_frame(&mut self.whole, &self.begun[at..at + length]);
            at += length;
        }
        self.begun.drain(..at);
        is_mended
    }
}

fn add_frame(whole: &mut Vec<u8>, frame: &[u8]) -> bool {
    let made = (frame[0] == CONTENT_HEADER)
        .then(|| &frame[FRAME_HEAD_BYTES..frame.len() - 1])
        .and_then(made_readable);
    let Some(payload) = made else {
        whole.extend(frame);
        return false;
    };
    let size = u32::try_from(payload.len()).expect("no longer than before");
    whole.extend(&frame[..FRAME_HEAD_BYTES - 4]);
    whole.extend(size.to_be_bytes());
    whole.extend(payload);
    whole.extend(&frame[frame.len() - 1..]);
    true
}

/// The length of the frame at the beginning, if it is whole. Bytes that are no frame are passed on as they are.
fn next_length(bytes: &[u8]) -> Option<usize> {
    if *bytes.first()? > FRAME_TYPE_MAX {
        return Some(bytes.len());
    }
    let size = bytes.get(FRAME_HEAD_BYTES - 4..FRAME_HEAD_BYTES)?;
    let size = size.iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
    if size > FRAME_BYTES_MAX {
        return Some(bytes.len());
    }
    let length = FRAME_HEAD_BYTES + size + 1;
    (bytes.len() >= length).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A content header with this message id.
    fn header(id: &[u8]) -> Vec<u8> {
        let head = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x80];
        let payload = [head.as_slice(), &[u8::try_from(id.len()).expect("short")], id].concat();
        frame(CONTENT_HEADER, &payload)
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&[kind, 0, 1], size.as_slice(), payload, &[0xce]].concat()
    }

    #[test]
    fn content_headers_become_readable_wherever_the_reads_break() {
        let body = frame(3, b"x\xff\xce");
        let sent = [frame(1, b"\xff"), header(b"x\xff"), body.clone(), header(b"y")].concat();
        let expected = [frame(1, b"\xff"), header(b"x?"), body, header(b"y")].concat();
        for chunk in 1..=sent.len() {
            let (mut frames, mut mended) = (Frames::default(), 0);
            sent.chunks(chunk).for_each(|bytes| mended += usize::from(frames.add(bytes)));
            assert_eq!((frames.whole, mended), (expected.clone(), 1), "{chunk}");
        }
    }

    #[test]
    fn the_answer_of_a_server_of_another_version_passes_unchanged() {
        let mut frames = Frames::default();
        assert!(!frames.add(b"AMQP\x01\x01\0\x0a"));
        assert_eq!(frames.whole, b"AMQP\x01\x01\0\x0a");
    }

    #[test]
    fn a_mended_message_is_reported_once() {
        let mended = Mended::default();
        mended.0.store(true, Ordering::Relaxed);
        assert!(mended.take() && !mended.take());
    }
}
