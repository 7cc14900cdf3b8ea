//! Read buffers, of which a connection that waits owns none.
//!
//! A worker keeps a few large buffers and lends the one used last, which is still in cache. A task takes one when
//! bytes are there to be read, and gives it back before it waits again. What must be kept meanwhile (half a head, data that a slow
//! reader has not taken) is moved into a block of its own size by [`Buffers::park`].

use std::cell::RefCell;

/// Size of a lent buffer: large enough for any head within the default limits, and for few reads a large body.
pub(crate) const SIZE: usize = 64 * 1024;

/// Large buffers that an idle worker keeps.
const KEPT: usize = 32;

/// Bytes received and not yet used up. Empty, it owns no memory.
#[derive(Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Buffer {
    /// A copy of `bytes`, in a block of its own.
    pub(crate) fn holding(bytes: &[u8]) -> Buffer {
        Buffer { bytes: bytes.to_vec(), from: 0, to: bytes.len() }
    }

    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }

    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..self.to]
    }

    /// True if it holds no memory at all.
    pub(crate) fn owns_nothing(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.from == self.to
    }

    pub(crate) fn len(&self) -> usize {
        self.to - self.from
    }

    /// Room for reading into; [`Buffer::added`] tells how much of it was used.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.to..]
    }

    pub(crate) fn added(&mut self, n: usize) {
        self.to += n;
    }

    /// Forgets the first `n` bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        self.from += n;
        if self.from >= self.to {
            (self.from, self.to) = (0, 0);
        }
    }

    /// Forgets all but the first `n` bytes.
    pub(crate) fn truncate(&mut self, n: usize) {
        self.to = self.from + n;
    }
}

/// The large buffers of a worker.
#[derive(Default)]
pub(crate) struct Buffers {
    free: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| vec![0; SIZE])
    }

    fn give(&self, bytes: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if bytes.len() == SIZE && free.len() < KEPT {
            free.push(bytes);
        }
    }

    /// Makes sure that there is room to read into. `max` bounds what a message may take; it is at least `SIZE`.
    pub(crate) fn make_room(&self, buffer: &mut Buffer, max: usize) {
        if buffer.bytes.len() - buffer.to >= 1024 {
            return;
        }
        let size = if buffer.len() + 1024 <= SIZE { SIZE } else { max.max(buffer.len() + 1024) };
        let mut bytes = if size == SIZE { self.take() } else { vec![0; size] };
        bytes[..buffer.len()].copy_from_slice(buffer.filled());
        self.replace(buffer, bytes);
    }

    /// The task is going to wait: keep only what it needs.
    pub(crate) fn park(&self, buffer: &mut Buffer) {
        if buffer.is_empty() {
            self.release(buffer);
        } else if buffer.bytes.len() > buffer.len() + buffer.len() / 4 + 1024 {
            let mut bytes = vec![0; buffer.len()];
            bytes.copy_from_slice(buffer.filled());
            self.replace(buffer, bytes);
        }
    }

    /// Drops what is in the buffer, and gives its memory back.
    pub(crate) fn release(&self, buffer: &mut Buffer) {
        self.give(std::mem::take(buffer).bytes);
    }

    fn replace(&self, buffer: &mut Buffer, bytes: Vec<u8>) {
        let to = buffer.len();
        let old = std::mem::replace(buffer, Buffer { bytes, from: 0, to });
        self.give(old.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(buffers: &Buffers, text: &[u8]) -> Buffer {
        let mut b = Buffer::default();
        buffers.make_room(&mut b, SIZE);
        b.room()[..text.len()].copy_from_slice(text);
        b.added(text.len());
        b
    }

    #[test]
    fn parking_keeps_the_bytes_and_gives_the_large_buffer_back() {
        let buffers = Buffers::default();
        let mut b = with(&buffers, b"xxhalf a head");
        b.consume(2);
        buffers.park(&mut b);
        assert_eq!(b.filled(), b"half a head");
        assert_eq!(b.bytes.len(), 11);
        assert_eq!(buffers.free.borrow().len(), 1);
        buffers.make_room(&mut b, SIZE);
        assert_eq!(b.filled(), b"half a head");
        assert_eq!(buffers.free.borrow().len(), 0);
        b.consume(11);
        buffers.park(&mut b);
        assert_eq!(b.bytes.capacity(), 0);
    }

    #[test]
    fn room_grows_up_to_what_a_message_may_take() {
        let buffers = Buffers::default();
        let mut b = with(&buffers, &[7; SIZE - 10]);
        buffers.make_room(&mut b, 3 * SIZE);
        assert!(b.room().len() >= 1024);
        assert!(b.filled().iter().all(|&x| x == 7) && b.len() == SIZE - 10);
    }
}
