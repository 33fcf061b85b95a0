//! Hop `inbound`: a client's connection as `h2` reads and writes it, with others looking on: `admission` for fragments, and the
//! count of what `h2` refuses by itself.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::refusals::Refusals;
use crate::admission::fragment::Fragments;
use crate::inbound::socket::Socket;
use crate::metrics::Limit;

/// A connection whose bytes are seen twice.
pub(super) struct Watched<T> {
    socket: Socket<T>,
    fragments: Rc<RefCell<Fragments>>,
    refusals: Refusals,
    tell: Box<dyn Fn(Limit)>,
}

impl<T> Watched<T> {
    /// Fragments are found in what comes; the bounds that `h2` enforces, in what it answers.
    pub(super) fn new(socket: Socket<T>, fragments: Rc<RefCell<Fragments>>, tell: Box<dyn Fn(Limit)>) -> Self {
        Self { socket, fragments, refusals: Refusals::new(), tell }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        self.fragments.borrow_mut().read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
        let Self { refusals, tell, .. } = &mut *self;
        refusals.wrote(&bytes[..written], tell);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(cx, slices))?;
        let Self { refusals, tell, .. } = &mut *self;
        let mut left = written;
        for slice in slices {
            let seen = left.min(slice.len());
            refusals.wrote(&slice[..seen], tell);
            left -= seen;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
