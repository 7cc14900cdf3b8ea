//! The body of an answer: some text, padding made on the fly, an end; and the fault of ending half-way.
//!
//! Padding is never held as a whole, so that a thousand slow readers of a large answer cost no memory. The size is known
//! from the start, so hyper sends a Content-Length.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};

use super::counters::InFlight;

static PADDING: [u8; 16 * 1024] = [b'x'; 16 * 1024];

/// A body of known size.
#[derive(Debug)]
pub(super) struct Payload {
    head: Bytes,
    fill: u64,
    tail: Bytes,
    /// Bytes still to send before the connection is cut.
    cut: Option<u64>,
    /// Whether the last bytes before the cut had their chance to leave.
    flushed: bool,
    /// Only held: given back when the answer has left or its connection is gone.
    _in_flight: Option<InFlight>,
}

/// The body ends here on purpose.
#[derive(Debug)]
pub(super) struct Truncated;

impl std::fmt::Display for Truncated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("truncated on purpose")
    }
}

impl std::error::Error for Truncated {}

impl Payload {
    /// A body of just these bytes.
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Payload {
        Payload::padded(bytes, 0, Bytes::new())
    }

    /// `head`, then `fill` times `x`, then `tail`.
    pub(super) fn padded(head: impl Into<Bytes>, fill: u64, tail: impl Into<Bytes>) -> Payload {
        Payload { head: head.into(), fill, tail: tail.into(), cut: None, flushed: false, _in_flight: None }
    }

    /// The same body, cut after half of it.
    pub(super) fn truncated(self) -> Payload {
        Payload { cut: Some(self.size() / 2), ..self }
    }

    /// The same body, holding `in_flight` to its end.
    pub(super) fn holding(self, in_flight: InFlight) -> Payload {
        Payload { _in_flight: Some(in_flight), ..self }
    }

    fn size(&self) -> u64 {
        self.head.len() as u64 + self.fill + self.tail.len() as u64
    }

    /// At most `limit` of the next bytes; empty at the end.
    fn take(&mut self, limit: u64) -> Bytes {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if !self.head.is_empty() {
            return self.head.split_to(self.head.len().min(limit));
        }
        if self.fill > 0 {
            let piece = self.fill.min(PADDING.len() as u64).min(limit as u64);
            self.fill -= piece;
            return Bytes::from_static(&PADDING).slice(..piece as usize);
        }
        self.tail.split_to(self.tail.len().min(limit))
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Truncated;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Truncated>>> {
        if self.cut == Some(0) {
            if self.flushed {
                return Poll::Ready(Some(Err(Truncated)));
            }
            // An error makes hyper drop what it has buffered; a pause makes it send that first.
            self.flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let limit = self.cut.unwrap_or(u64::MAX);
        let bytes = self.take(limit);
        if bytes.is_empty() {
            return Poll::Ready(None);
        }
        self.cut = self.cut.map(|left| left - bytes.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.cut.is_none() && self.size() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(mut payload: Payload) -> (Vec<u8>, bool) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut sent = Vec::new();
        loop {
            match Pin::new(&mut payload).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => sent.extend(frame.into_data().unwrap()),
                Poll::Ready(Some(Err(Truncated))) => return (sent, true),
                Poll::Ready(None) => return (sent, false),
                Poll::Pending => {}
            }
        }
    }

    #[test]
    fn sends_exactly_what_it_promises() {
        let payload = Payload::padded("<", 100_000, ">");
        assert_eq!(payload.size_hint().exact(), Some(100_002));
        let (sent, cut) = drain(payload);
        assert!(!cut);
        assert_eq!(sent.len(), 100_002);
        assert_eq!((sent[0], sent[1], sent[100_001]), (b'<', b'x', b'>'));
    }

    #[test]
    fn a_truncated_body_promises_all_and_sends_half() {
        let payload = Payload::padded("<", 100_000, ">").truncated();
        assert_eq!(payload.size_hint().exact(), Some(100_002));
        let (sent, cut) = drain(payload);
        assert!(cut);
        assert_eq!(sent.len(), 50_001);
    }
}
