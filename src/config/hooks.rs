//! Which hooks are asked.

use core::ops::BitOr;

/// The hooks that a connection asks. A hook that is not asked has its default answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hooks(u16);

impl Hooks {
    /// No hook.
    pub const NONE: Self = Self(0);
    /// Before the greeting; by default the client is greeted with 220.
    pub const CONNECT: Self = Self(1);
    /// HELO and EHLO; by default `250`.
    pub const HELLO: Self = Self(1 << 1);
    /// MAIL; by default `250 2.1.0`.
    pub const MAIL: Self = Self(1 << 2);
    /// RCPT; by default `250 2.1.5`.
    pub const RCPT: Self = Self(1 << 3);
    /// DATA, before the content; by default 354.
    pub const DATA: Self = Self(1 << 4);
    /// The end of a message; by default `451 4.3.5`, as the engine itself keeps no message.
    pub const MESSAGE: Self = Self(1 << 5);
    /// RSET; by default `250 2.0.0`. The transaction is gone whatever is answered.
    pub const RSET: Self = Self(1 << 6);
    /// NOOP; by default `250 2.0.0`.
    pub const NOOP: Self = Self(1 << 7);
    /// VRFY; by default `252 2.5.0`.
    pub const VRFY: Self = Self(1 << 8);
    /// EXPN; by default `502 5.5.1`.
    pub const EXPN: Self = Self(1 << 9);
    /// Commands that the engine does not know; by default `500 5.5.1`. While it is asked, they are `530 5.7.0` before TLS
    /// and AUTH where those are required, unless [`ConfigBuilder::open_verb`](crate::ConfigBuilder::open_verb)
    /// names their verb.
    pub const UNKNOWN: Self = Self(1 << 10);
    /// QUIT; by default `221 2.0.0`. The connection closes whatever is answered.
    pub const QUIT: Self = Self(1 << 11);
    /// HELP; by default `214 2.0.0` with the commands that the client could use.
    pub const HELP: Self = Self(1 << 12);
    /// Every hook.
    pub const ALL: Self = Self((1 << 13) - 1);

    /// Whether every hook of `other` is among these.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These hooks and those of `other`, in constants.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Hooks {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}
