//! Everything that is logged, to be searched for what must not be, and must be, in it.

use std::fmt::{Debug, Write};
use std::sync::{Mutex, MutexGuard, Once};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// From now on everything is collected, of all threads and at every level.
pub(crate) fn collect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Collector).unwrap());
}

/// What there is, line by line, each with its level in front.
pub(crate) fn lines() -> Vec<String> {
    locked().clone()
}

/// How many lines have all of these in them.
pub(crate) fn count(parts: &[&str]) -> usize {
    locked().iter().filter(|line| parts.iter().all(|part| line.contains(part))).count()
}

struct Collector;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn locked() -> MutexGuard<'static, Vec<String>> {
    LINES.lock().unwrap()
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line(Level::TRACE.to_string());
        span.record(&mut line);
        locked().push(line.0);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line(Level::TRACE.to_string());
        values.record(&mut line);
        locked().push(line.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        locked().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
