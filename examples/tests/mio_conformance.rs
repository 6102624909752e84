//! The loop of `mio_loop` does what whoever embeds the engine has to do. It is the example's own code.

#[path = "../loops/mio_loop.rs"]
#[expect(dead_code, reason = "its `main` serves a demo")]
mod mio_loop;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::Events;
use mio_loop::Loop;
use sansmtp::{Handler, Peer};
use sansmtp_conformance::{Blocking, Plan, Runtime, Started, conformance};

conformance!(Blocking<Mio>);

struct Mio;

impl Runtime for Mio {
    fn start<H: Handler + 'static>(
        plan: &Plan,
        make_handler: impl Fn(Peer) -> H + Send + Sync + 'static,
    ) -> io::Result<Started> {
        let open = Arc::new((plan.clone(), make_handler));
        Started::a_loop(plan, move |listener, implicit, ends| {
            let mut serving = Loop::new(listener, false, |peer| open.0.open(implicit, peer, &open.1))?;
            let mut events = Events::with_capacity(1024);
            while !ends.load(Ordering::Relaxed) {
                serving.turn(&mut events)?;
            }
            Ok(())
        })
    }
}
