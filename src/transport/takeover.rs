//! How a connection changes hands: the router answers the request, and a shard carries on with the socket.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;

use super::shards::Socket;

/// In a response's extensions: what to do with the socket once the head is encoded.
#[derive(Clone)]
pub struct Takeover(Arc<Shared>);

struct Shared {
    carry: Mutex<Option<Carry>>,
    head_is_encoded: AtomicBool,
}

/// Who carries on.
type Carry = Box<dyn FnOnce(Carried) + Send>;

/// What changes hands.
pub struct Carried {
    pub socket: Socket,
    /// The head of the answer, still to be sent.
    pub head: Bytes,
    /// What the client sent behind its request without waiting for the answer.
    pub early: Bytes,
}

/// The body of a response whose bytes come from elsewhere.
pub struct CarriedBody(Arc<Shared>);

impl Takeover {
    /// `carry` is called with the socket, once the head of the answer is encoded.
    pub fn new(carry: impl FnOnce(Carried) + Send + 'static) -> Self {
        Self(Arc::new(Shared { carry: Mutex::new(Some(Box::new(carry))), head_is_encoded: AtomicBool::new(false) }))
    }

    /// A body without length, so that the head says how the bytes are framed.
    pub fn body(&self) -> CarriedBody {
        CarriedBody(self.0.clone())
    }

    /// Whether the server has begun to ask for the body, which it does once the head is encoded.
    pub fn head_is_encoded(&self) -> bool {
        self.0.head_is_encoded.load(Ordering::Relaxed)
    }

    /// Gives the socket away; does nothing the second time.
    pub fn carry(&self, carried: Carried) {
        let carry = self.0.carry.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(carry) = carry {
            carry(carried);
        }
    }
}

impl HttpBody for CarriedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.head_is_encoded.store(true, Ordering::Relaxed);
        Poll::Pending
    }
}
