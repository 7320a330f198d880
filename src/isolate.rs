//! Containment of panics in user code: in a call, in a poll and in a drop.
//!
//! A panic payload is dropped by nobody: its own `Drop` may panic, and that panic would leave every `catch_unwind`
//! around it. The few bytes leak instead, once per panic.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Calls `f`; a panic becomes its message.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let message = message_of(payload.as_ref());
        std::mem::forget(payload);
        message
    })
}

/// Drops `value`; a panic in its `Drop` becomes its message.
pub(crate) fn drop_quietly<T>(value: T) -> Result<(), String> {
    catch(move || drop(value))
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a text message".to_owned()
    }
}

/// A future that resolves to `Err(message)` when the inner one panics, in a poll or in its drop.
pub(crate) struct Isolated<F>(Option<Pin<Box<F>>>)
where
    F: Future + ?Sized;

impl<F: Future + ?Sized> Isolated<F> {
    pub(crate) fn new(future: Pin<Box<F>>) -> Self {
        Self(Some(future))
    }

    /// Drops the inner future now, without finishing it.
    pub(crate) fn abandon(&mut self) -> Result<(), String> {
        drop_quietly(self.0.take())
    }
}

impl<F: Future + ?Sized> Future for Isolated<F> {
    type Output = Result<F::Output, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(future) = self.0.as_mut() else {
            return Poll::Ready(Err("polled after it had ended".to_owned()));
        };
        let result = match catch(|| future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(message) => Err(message),
        };
        match self.abandon() {
            Ok(()) => Poll::Ready(result),
            Err(message) => {
                let _ = drop_quietly(result);
                Poll::Ready(Err(message))
            }
        }
    }
}

impl<F: Future + ?Sized> Drop for Isolated<F> {
    fn drop(&mut self) {
        let _ = self.abandon();
    }
}

/// A value whose `Drop` cannot panic into whoever lets go of it last.
pub(crate) struct Guarded<T>(Option<T>);

impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        if let Err(message) = drop_quietly(self.0.take()) {
            log::warn!(target: "lunacore::plan", "dropping a callable or an error panicked: {message}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("bomb");
        }
    }

    fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[test]
    fn a_panic_is_caught_wherever_it_happens() {
        let mut in_poll = Isolated::new(Box::pin(async { panic!("in poll") }));
        assert!(matches!(poll_once(&mut in_poll), Poll::Ready(Err(m)) if m == "in poll"));

        let held = Bomb;
        let mut in_drop = Isolated::new(Box::pin(async move {
            let _held = &held;
            7
        }));
        assert!(matches!(poll_once(&mut in_drop), Poll::Ready(Err(m)) if m == "bomb"));

        let held = Bomb;
        let mut never = Isolated::new(Box::pin(async move {
            let _held = held;
            std::future::pending::<()>().await;
        }));
        assert!(poll_once(&mut never).is_pending());
        assert_eq!(never.abandon(), Err("bomb".to_owned()));

        drop(Guarded::new(Bomb));
        let payload: Result<(), String> = catch(|| std::panic::panic_any(Bomb));
        assert_eq!(payload, Err("a panic without a text message".to_owned()));
    }
}
