//! What gathers a message: a value that begins with the message, takes its content in pieces, and is handed over at
//! its end.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;
use core::mem;
use core::ops::Deref;

/// Gathers one message, for a [`Handler`](crate::Handler).
///
/// Each message has a value of its own. It is made by `Default` at DATA or the first BDAT, takes the content in pieces,
/// and is handed to [`Handler::message`](crate::Handler::message). It is dropped where the message is void, where
/// [`Handler::data`](crate::Handler::data) refuses it or panics, and where the connection ends. So no octet of a message
/// can get into another one.
///
/// | the type | keeps |
/// | --- | --- |
/// | `()` | nothing |
/// | `Vec<u8>` | the whole message in memory, of up to [`Limits::max_message_octets`](crate::Limits) |
/// | `Option<T>` | what the `T` keeps that [`Handler::data`](crate::Handler::data) has put there; nothing without one |
/// | `Box<T>` | what the `T` keeps |
///
/// ```
/// use sansmtp::{Envelope, Handler, MailData, Session, Verdict};
/// use std::fs::File;
/// use std::io::{self, Write};
///
/// struct Inbox;
///
/// impl Handler for Inbox {
///     type Message = Option<Draft>;
///
///     fn data(&mut self, _: &Session, _: &Envelope, message: &mut Option<Draft>) -> Verdict {
///         match File::create("inbox.eml") {
///             Ok(file) => *message = Some(Draft { file, written: Ok(()) }),
///             Err(_) => return Verdict::TryLater,
///         }
///         Verdict::Accept
///     }
///
///     fn message(&mut self, _: &Session, _: &Envelope, message: Option<Draft>) -> Verdict {
///         match message.map(|draft| draft.written.and_then(|()| draft.file.sync_all())) {
///             Some(Ok(())) => Verdict::Accept,
///             Some(Err(_)) | None => Verdict::TryLater,
///         }
///     }
/// }
///
/// struct Draft {
///     file: File,
///     written: io::Result<()>,
/// }
///
/// impl MailData for Draft {
///     fn append(&mut self, piece: &[u8]) {
///         if self.written.is_ok() {
///             self.written = self.file.write_all(piece);
///         }
///     }
/// }
/// ```
pub trait MailData: Send {
    /// Adds the next piece of the content, dot-unstuffed; no piece is empty. An error in keeping it stays in the value,
    /// and is told by [`Handler::message`](crate::Handler::message).
    fn append(&mut self, piece: &[u8]);
}

impl MailData for () {
    fn append(&mut self, _: &[u8]) {}
}

impl MailData for Vec<u8> {
    fn append(&mut self, piece: &[u8]) {
        self.extend_from_slice(piece);
    }
}

impl<T: MailData> MailData for Option<T> {
    fn append(&mut self, piece: &[u8]) {
        if let Some(message) = self {
            message.append(piece);
        }
    }
}

impl<T: MailData> MailData for Box<T> {
    fn append(&mut self, piece: &[u8]) {
        T::append(self, piece);
    }
}

/// Gathers one message, for an [`AsyncHandler`](crate::AsyncHandler). The same as [`MailData`], but that it may wait.
pub trait AsyncMailData: Send {
    /// Adds the next piece of the content, as [`MailData::append`] does. While it waits, the peer's window closes.
    fn append(&mut self, piece: &[u8]) -> impl Future<Output = ()> + Send;
}

impl AsyncMailData for () {
    async fn append(&mut self, _: &[u8]) {}
}

impl AsyncMailData for Vec<u8> {
    async fn append(&mut self, piece: &[u8]) {
        self.extend_from_slice(piece);
    }
}

impl<T: AsyncMailData> AsyncMailData for Option<T> {
    async fn append(&mut self, piece: &[u8]) {
        if let Some(message) = self {
            message.append(piece).await;
        }
    }
}

impl<T: AsyncMailData> AsyncMailData for Box<T> {
    async fn append(&mut self, piece: &[u8]) {
        T::append(self, piece).await;
    }
}

/// A piece of message content, dot-unstuffed, that knows where in the message it lies. Never empty.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Piece<'c> {
    offset: u64,
    octets: &'c [u8],
}

impl<'c> Piece<'c> {
    /// Octets that are so many octets behind the beginning of their message.
    #[must_use]
    pub const fn new(offset: u64, octets: &'c [u8]) -> Self {
        Self { offset, octets }
    }

    /// How many octets of its message come before it. 0 says that a message begins.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.offset
    }

    /// The octets.
    #[must_use]
    pub const fn as_bytes(self) -> &'c [u8] {
        self.octets
    }

    fn end(self) -> u64 {
        self.offset.saturating_add(u64::try_from(self.octets.len()).unwrap_or(u64::MAX))
    }
}

impl Deref for Piece<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.octets
    }
}

impl fmt::Debug for Piece<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Piece({}: \"{}\")", self.offset, self.octets.escape_ascii())
    }
}

/// The message that is coming in: what a loop keeps beside the [`Connection`](crate::Connection).
///
/// Each message is gathered in a value `M` of its own, because a [`Piece`] tells whether a message begins with it: a loop
/// that does nothing at [`Action::Aborted`](crate::Action::Aborted) mixes no messages either, but only keeps a void one
/// for longer. A message of which a piece was lost, by a panic or by a future that was dropped, is not handed over.
///
/// ```
/// use sansmtp::{Incoming, Piece};
///
/// let mut incoming = Incoming::<Vec<u8>>::new();
/// incoming.append(Piece::new(0, b"refused before its end"));
/// incoming.append(Piece::new(0, b"one "));
/// incoming.append(Piece::new(4, b"whole"));
/// assert_eq!(incoming.take(9), Some(b"one whole".to_vec()));
///
/// // An empty message has no piece.
/// incoming.append(Piece::new(0, b"refused before its end"));
/// assert_eq!(incoming.take(0), Some(Vec::new()));
///
/// // Of this one, something is missing.
/// incoming.append(Piece::new(0, b"one "));
/// assert_eq!(incoming.take(9), None);
/// ```
#[derive(Debug)]
pub struct Incoming<M> {
    /// Absent where none has begun, or something of it was lost.
    message: Option<M>,
    /// How many octets it has taken.
    octets: u64,
}

impl<M> Incoming<M> {
    /// Nothing has come yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { message: None, octets: 0 }
    }

    /// Has the next message gathered by `message`, as [`Hook::Data`](crate::Hook::Data) may prepare it. Where this is not
    /// called, a message begins with its first piece.
    pub fn begin(&mut self, message: M) {
        *self = Self { message: Some(message), octets: 0 };
    }

    /// Drops what has been gathered.
    pub fn discard(&mut self) {
        *self = Self::new();
    }
}

impl<M: Default> Incoming<M> {
    /// Takes the message of so many octets, as [`Hook::Message`](crate::Hook::Message) says. `None` if it is not there
    /// whole: it must not be accepted.
    pub fn take(&mut self, octets: u64) -> Option<M> {
        let Self { message, octets: taken } = mem::take(self);
        match message {
            Some(message) if taken == octets => Some(message),
            // A message without content has no piece to begin it.
            _ => (octets == 0).then(M::default),
        }
    }

    /// The value that this piece is for. Until it is put back, the message is lost.
    fn take_for(&mut self, piece: Piece<'_>) -> Option<M> {
        let message = self.message.take();
        match message {
            Some(message) if self.octets == piece.offset => Some(message),
            _ if piece.offset == 0 => Some(M::default()),
            _ => None,
        }
    }

    fn put_back(&mut self, message: M, piece: Piece<'_>) {
        *self = Self { message: Some(message), octets: piece.end() };
    }
}

impl<M: MailData + Default> Incoming<M> {
    /// Adds a piece to the message that it belongs to. If that panics, the message is lost.
    pub fn append(&mut self, piece: Piece<'_>) {
        if let Some(mut message) = self.take_for(piece) {
            message.append(piece.octets);
            self.put_back(message, piece);
        }
    }
}

impl<M: AsyncMailData + Default> Incoming<M> {
    /// The same for what may wait. If the future is dropped, the message is lost as well.
    pub async fn append_async(&mut self, piece: Piece<'_>) {
        if let Some(mut message) = self.take_for(piece) {
            message.append(piece.octets).await;
            self.put_back(message, piece);
        }
    }
}

impl<M> Default for Incoming<M> {
    fn default() -> Self {
        Self::new()
    }
}
