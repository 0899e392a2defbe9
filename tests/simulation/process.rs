//! A process around an engine: it can be killed at any poll, stopped, frozen and continued.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

/// What is done to the process from outside.
#[derive(Default)]
pub struct Control(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    dead: bool,
    frozen: bool,
    polls: u64,
    kill_at: Option<u64>,
    freeze_at: Option<(u64, Duration)>,
    moment: Option<Instant>,
    polls_now: u64,
    wakers: Vec<Waker>,
}

impl Control {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn kill(&self) {
        let mut inner = self.lock();
        inner.dead = true;
        wake(&mut inner);
    }

    /// Dies at its so many-th poll from now.
    pub fn kill_at(&self, polls: u64) {
        let mut inner = self.lock();
        inner.kill_at = Some(inner.polls + polls);
    }

    /// Stands still from its so many-th poll from now, for so long.
    pub fn freeze_at(&self, polls: u64, time: Duration) {
        let mut inner = self.lock();
        inner.freeze_at = Some((inner.polls + polls, time));
    }

    pub fn freeze(&self, frozen: bool) {
        let mut inner = self.lock();
        inner.frozen = frozen;
        wake(&mut inner);
    }

    pub fn is_frozen(&self) -> bool {
        self.lock().frozen
    }

    /// Nothing goes out of, or into, a process that is frozen or dead.
    pub async fn running(&self) {
        poll_fn(|cx| {
            let mut inner = self.lock();
            if inner.frozen || inner.dead {
                inner.wakers.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }
}

fn wake(inner: &mut Inner) {
    for waker in inner.wakers.drain(..) {
        waker.wake();
    }
}

/// Runs `work` as the process that `control` controls; `None` if it was killed.
pub struct Process<F> {
    pub work: Pin<Box<F>>,
    pub control: Arc<Control>,
}

impl<F: Future> Future for Process<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut inner = self.control.lock();
        inner.polls += 1;
        let now = Instant::now();
        if inner.moment != Some(now) {
            (inner.moment, inner.polls_now) = (Some(now), 0);
        }
        inner.polls_now += 1;
        assert!(inner.polls_now < 20_000, "the engine spins");
        if inner.kill_at.is_some_and(|at| at <= inner.polls) {
            inner.dead = true;
        }
        let polls = inner.polls;
        if let Some((_, time)) = inner.freeze_at.take_if(|(at, _)| *at <= polls) {
            inner.frozen = true;
            let control = self.control.clone();
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                control.freeze(false);
            });
        }
        if inner.dead {
            return Poll::Ready(None);
        }
        if inner.frozen {
            inner.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        // It may also be killed from outside while it is not being polled.
        inner.wakers.retain(|waker| !waker.will_wake(cx.waker()));
        inner.wakers.push(cx.waker().clone());
        drop(inner);
        self.work.as_mut().poll(cx).map(Some)
    }
}
