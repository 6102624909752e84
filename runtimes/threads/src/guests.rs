//! Who waits in the server's lobby: listeners, and the connections that have come by them.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use sansmtp::{Handler, Peer};
use sansmtp_driver::lobby::{Entrance, Guest, Left, News, Registry, Socket, Token, Turn, WaitFor};
use sansmtp_driver::{Place, Service, Stages, after};

use crate::connection::Line;

pub(crate) enum Guests<H: Handler> {
    Door(Door<H>),
    Line(Box<Line<H>>),
}

/// A listener.
pub(crate) struct Door<H: Handler> {
    pub(crate) entrance: Entrance,
    pub(crate) service: Arc<Service>,
    pub(crate) stages: Arc<Stages>,
    /// Begins a connection, if there is a place for it.
    pub(crate) receive: Box<Receive<H>>,
    /// Gone when nobody listens any more.
    pub(crate) _is_open: Sender<()>,
}

pub(crate) type Receive<H> = dyn FnMut(Socket, Peer) -> Option<(Place, Box<Line<H>>)> + Send;

impl<H: Handler + 'static> Door<H> {
    /// Takes connections, until none comes or the server is told to end.
    fn go_on(mut self, turn: &Turn<'_, Guests<H>>) {
        // To make a handler may take long.
        turn.may_block();
        while !self.stages.requested.is_set() {
            let (wait, until) = match self.entrance.accept() {
                Ok((socket, peer)) => {
                    if let Some((place, line)) = (self.receive)(socket, peer)
                        && let Err(error) = turn.lobby().let_in(Some(place), Guests::Line(line))
                    {
                        tracing::error!(%peer, %error, "cannot watch a connection");
                    }
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (WaitFor::Socket, None),
                Err(error) => match self.service.accept_failed(&error) {
                    Some(pause) => (WaitFor::Time, Some(after(pause))),
                    None => continue,
                },
            };
            match turn.leave(Guests::Door(self), wait, until) {
                Left::GoesOn(Guests::Door(door), _) => self = door,
                Left::Waits | Left::GoesOn(..) | Left::Over(_) => return,
            }
        }
    }
}

impl<H: Handler + 'static> Guest for Guests<H> {
    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Door(door) => door.entrance.register(registry, token),
            Self::Line(line) => line.socket.register(registry, token),
        }
    }

    fn go_on(self, turn: &Turn<'_, Self>, news: News) {
        match self {
            Self::Door(door) => door.go_on(turn),
            Self::Line(line) => line.go_on(turn, news),
        }
    }

    fn cut_off(self) {
        match self {
            Self::Door(door) => drop(door),
            Self::Line(line) => {
                line.socket.reset();
                line.end();
            }
        }
    }
}
