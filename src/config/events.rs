//! Which events are told.

use core::ops::BitOr;

/// The events that a connection tells ([`Event`](crate::Event)). One that is not among them costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events(u16);

impl Events {
    /// No event.
    pub const NONE: Self = Self(0);
    /// [`Event::Opened`](crate::Event::Opened).
    pub const OPENED: Self = Self(1);
    /// [`Event::Closed`](crate::Event::Closed).
    pub const CLOSED: Self = Self(1 << 1);
    /// [`Event::TlsEstablished`](crate::Event::TlsEstablished).
    pub const TLS_ESTABLISHED: Self = Self(1 << 2);
    /// [`Event::TlsFailed`](crate::Event::TlsFailed).
    pub const TLS_FAILED: Self = Self(1 << 3);
    /// [`Event::TransactionBegun`](crate::Event::TransactionBegun).
    pub const TRANSACTION_BEGUN: Self = Self(1 << 4);
    /// [`Event::MessageAccepted`](crate::Event::MessageAccepted).
    pub const MESSAGE_ACCEPTED: Self = Self(1 << 5);
    /// What the client was refused, but for AUTH: [`Event::ClientRefused`](crate::Event::ClientRefused),
    /// [`Event::CommandRefused`](crate::Event::CommandRefused),
    /// [`Event::RecipientRefused`](crate::Event::RecipientRefused) and
    /// [`Event::MessageRefused`](crate::Event::MessageRefused).
    pub const REFUSED: Self = Self(1 << 6);
    /// [`Event::LimitReached`](crate::Event::LimitReached).
    pub const LIMIT_REACHED: Self = Self(1 << 7);
    /// [`Event::AuthSucceeded`](crate::Event::AuthSucceeded) and
    /// [`Event::AuthFailed`](crate::Event::AuthFailed).
    pub const AUTH: Self = Self(1 << 8);
    /// [`Event::ProxyRefused`](crate::Event::ProxyRefused).
    pub const PROXY_REFUSED: Self = Self(1 << 9);
    /// Every event.
    pub const ALL: Self = Self((1 << 10) - 1);

    /// Whether every event of `other` is among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These events and those of `other`, in constants.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Default for Events {
    /// [`AUTH`](Self::AUTH) and [`PROXY_REFUSED`](Self::PROXY_REFUSED).
    fn default() -> Self {
        Self::AUTH | Self::PROXY_REFUSED
    }
}

impl BitOr for Events {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}
