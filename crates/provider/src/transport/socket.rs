//! A TCP socket that need not be watched.
//!
//! While the runtime watches a socket its thread wakes up whenever something arrives, whether anybody wants to know it or not. Whoever looks at times of his own takes the
//! socket out of the runtime's poll meanwhile: nothing wakes the thread, and what arrives collects in the kernel.
//!
//! Invariant: a read of an unwatched socket that finds nothing wakes nobody later. A write that finds no room makes the runtime watch the socket again, and waits.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub(crate) struct Socket(State);

enum State {
    Watched(TcpStream),
    /// It does not block either.
    Unwatched(std::net::TcpStream),
    /// It could not be moved from one to the other.
    Lost,
}

impl Socket {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self(State::Watched(tcp))
    }

    /// From now on nothing that arrives wakes anybody: who wants to know looks.
    pub(super) fn unwatch(&mut self) {
        self.0 = match std::mem::replace(&mut self.0, State::Lost) {
            State::Watched(tcp) => tcp.into_std().map_or(State::Lost, State::Unwatched),
            other => other,
        };
    }

    /// The contrary. `true` = it was not watched before, so that it must be read once more by those who are to be woken.
    pub(super) fn watch(&mut self) -> io::Result<bool> {
        match std::mem::replace(&mut self.0, State::Lost) {
            State::Unwatched(tcp) => {
                self.0 = State::Watched(TcpStream::from_std(tcp)?);
                Ok(true)
            }
            other => {
                self.0 = other;
                Ok(false)
            }
        }
    }

    /// Tries to write at once, and waits for room where there is none.
    fn poll_with(
        &mut self,
        cx: &mut Context<'_>,
        at_once: impl FnOnce(&mut std::net::TcpStream) -> io::Result<usize>,
        watched: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let State::Unwatched(tcp) = &mut self.0 {
            match at_once(tcp) {
                Err(error) if is_for_later(&error) => {}
                done => return Poll::Ready(done),
            }
            self.watch()?;
        }
        match &mut self.0 {
            State::Watched(tcp) => watched(Pin::new(tcp), cx),
            _ => Poll::Ready(Err(lost())),
        }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the socket is lost")
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Watched(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            State::Unwatched(tcp) => match tcp.read(buffer.initialize_unfilled()) {
                Ok(n) => {
                    buffer.advance(n);
                    Poll::Ready(Ok(()))
                }
                Err(error) if is_for_later(&error) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
            State::Lost => Poll::Ready(Err(lost())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_with(cx, |tcp| tcp.write(bytes), |tcp, cx| tcp.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_with(
            cx,
            |tcp| tcp.write_vectored(parts),
            |tcp, cx| tcp.poll_write_vectored(cx, parts),
        )
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is held back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Watched(tcp) => ready!(Pin::new(tcp).poll_shutdown(cx))?,
            State::Unwatched(tcp) => tcp.shutdown(Shutdown::Write)?,
            State::Lost => {}
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Socket::new(ours.unwrap()), theirs.unwrap().0)
    }

    /// What a look finds.
    async fn look(socket: &mut Socket) -> Option<Vec<u8>> {
        let mut buffer = [0; 64];
        std::future::poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut buffer);
            Poll::Ready(match Pin::new(&mut *socket).poll_read(cx, &mut buffer) {
                Poll::Ready(read) => {
                    read.unwrap();
                    Some(buffer.filled().to_vec())
                }
                Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn what_arrives_unwatched_is_there_for_who_looks_and_wakes_him_once_it_is_watched_again() {
        let (mut ours, mut theirs) = pair().await;
        ours.unwatch();
        ours.unwatch();
        assert_eq!(look(&mut ours).await, None);
        theirs.write_all(b"one").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(look(&mut ours).await.as_deref(), Some(&b"one"[..]));
        assert_eq!(look(&mut ours).await, None);
        theirs.write_all(b"two").await.unwrap();
        assert!(ours.watch().unwrap());
        assert!(!ours.watch().unwrap());
        let mut read = [0; 3];
        tokio::time::timeout(Duration::from_secs(10), ours.read_exact(&mut read))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&read, b"two");
    }

    #[tokio::test]
    async fn the_end_is_seen_by_who_looks() {
        let (mut ours, theirs) = pair().await;
        ours.unwatch();
        drop(theirs);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(look(&mut ours).await.as_deref(), Some(&b""[..]));
    }

    #[tokio::test]
    async fn an_unwatched_socket_without_room_waits_for_room() {
        const MUCH: usize = 32 << 20;
        let (mut ours, mut theirs) = pair().await;
        ours.unwatch();
        let reader = tokio::spawn(async move {
            // Until the buffers are full.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).await.unwrap();
            all.len()
        });
        ours.write_all(&vec![7; MUCH]).await.unwrap();
        ours.shutdown().await.unwrap();
        assert_eq!(reader.await.unwrap(), MUCH);
    }
}
