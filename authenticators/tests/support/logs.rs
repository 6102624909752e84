//! Everything that is logged, by `tracing` and by `log`, to be searched for what must not be, and must be, in it.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, Once, OnceLock};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// From now on everything is collected, of all threads and at every level.
pub(crate) fn collect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(everywhere().clone()).unwrap();
        log::set_logger(everywhere()).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

/// What there is, line by line, each with its level in front; behind that `log:` where `tracing` had no part in it.
pub(crate) fn lines() -> Vec<String> {
    everywhere().lines.lock().unwrap().clone()
}

/// How many lines have all of these in them.
pub(crate) fn count(parts: &[&str]) -> usize {
    lines().iter().filter(|line| parts.iter().all(|part| line.contains(part))).count()
}

/// Does something, and also gives everything that this thread has traced meanwhile, at every level.
pub(crate) fn collect_here<T>(what: impl FnOnce() -> T) -> (T, String) {
    // With nobody listening in the threads beside this one, `tracing` would take a line that one of them comes by first
    // for a line that nobody ever wants.
    collect();
    let here = Collector::default();
    let result = tracing::subscriber::with_default(here.clone(), what);
    let lines = here.lines.lock().unwrap();
    (result, lines.iter().map(|line| format!("{line}\n")).collect())
}

#[derive(Clone, Default)]
struct Collector {
    lines: Arc<Mutex<Vec<String>>>,
}

fn everywhere() -> &'static Collector {
    static COLLECTOR: OnceLock<Collector> = OnceLock::new();
    COLLECTOR.get_or_init(Collector::default)
}

impl Collector {
    fn push(&self, level: Level, record: impl FnOnce(&mut Line)) {
        let mut line = Line(level.to_string());
        record(&mut line);
        self.lines.lock().unwrap().push(line.0);
    }
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
        self.push(Level::TRACE, |line| span.record(line));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        self.push(Level::TRACE, |line| values.record(line));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.push(*event.metadata().level(), |line| event.record(line));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} log: {} {}", record.level(), record.target(), record.args());
        self.lines.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}
