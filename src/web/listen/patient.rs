//! A connection whose other end has so long for each thing that it has to do, and no longer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::lines::Lines;
use crate::web::limits::{Place, WRITE_TIME};

/// What is still read, and thrown away, of a request that was answered before it was whole: closing at once would take
/// the answer away from whoever is still writing.
const LINGER: (Duration, usize) = (Duration::from_secs(1), 1024 * 1024);

/// See the module.
pub(super) struct Patient<S> {
    stream: S,
    place: Arc<Place>,
    lines: Lines,
    reading: Pin<Box<Sleep>>,
    writing: Option<Pin<Box<Sleep>>>,
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, place: Arc<Place>) -> Patient<S> {
        let reading = Box::pin(sleep_until(Instant::now()));
        Patient { stream, place, lines: Lines::default(), reading, writing: None, lingering: None }
    }

    /// What came of an attempt to write: an error if there have been only attempts for too long.
    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.place.wrote(result.is_ready());
        if result.is_ready() {
            self.writing = None;
            return result;
        }
        let limit = || Box::pin(sleep_until(Instant::now() + WRITE_TIME));
        ready!(self.writing.get_or_insert_with(limit).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Poll::Ready(result) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            let come = buf.filled().get(before..).unwrap_or_default();
            if !come.is_empty() {
                self.place.heard();
            }
            if !self.lines.take(come) {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            return Poll::Ready(result);
        }
        let Some(deadline) = self.place.deadline() else { return Poll::Pending };
        if self.reading.deadline() != deadline {
            self.reading.as_mut().reset(deadline);
        }
        ready!(self.reading.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            let result = Pin::new(&mut self.stream).poll_shutdown(cx);
            ready!(self.written(cx, result))?;
            if !self.place.has_unread() {
                return Poll::Ready(Ok(()));
            }
        }
        let this = &mut *self;
        let (limit, left) = this
            .lingering
            .get_or_insert_with(|| (Box::pin(sleep_until(Instant::now() + LINGER.0)), LINGER.1));
        let mut scratch = [0; 4096];
        loop {
            if limit.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut scratch);
            let result = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf));
            let read = buf.filled().len();
            *left = left.saturating_sub(read);
            if result.is_err() || read == 0 || *left == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
