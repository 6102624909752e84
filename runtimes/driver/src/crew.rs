//! Threads that are used again.

use std::fmt;
use std::io;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Threads for jobs that block. One that has done its job waits some seconds for another: a short session takes
/// less time than the start of a thread.
///
/// Only those that wait are known here. So one whose job does not end is never counted on, and one whose job
/// panics, and which ends by that, is not missed.
pub struct Crew {
    name: &'static str,
    stack_octets: usize,
    patience: Duration,
    bench: Arc<Mutex<Bench>>,
}

/// Where threads wait.
#[derive(Default)]
struct Bench {
    /// Who came last is called first: those of whom there are too many get no job, and end.
    waiting: Vec<Arc<Waiting>>,
    is_closed: bool,
}

/// A thread that waits.
#[derive(Default)]
struct Waiting {
    call: Mutex<Option<Call>>,
    called: Condvar,
}

enum Call {
    Work(Job),
    Leave,
}

type Job = Box<dyn FnOnce() + Send>;

impl Crew {
    /// A crew that nobody is in yet. Its threads will have this name, and stacks of so many octets.
    #[must_use]
    pub fn new(name: &'static str, stack_octets: usize) -> Self {
        Self { name, stack_octets, patience: PATIENCE, bench: Arc::default() }
    }

    /// Has the job done at once, by a thread that waits or else by a new one.
    ///
    /// # Errors
    ///
    /// What the operating system says if it lets no thread be started. The job has been dropped then.
    pub fn assign(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut bench = lock(&self.bench);
        if let Some(waiting) = bench.waiting.pop() {
            // Under the lock: who loses patience just now, and is not on the bench any more, finds the call.
            waiting.hear(Call::Work(Box::new(job)));
            drop(bench);
            waiting.called.notify_one();
            return Ok(());
        }
        drop(bench);
        let (bench, patience) = (Arc::clone(&self.bench), self.patience);
        let work = move || {
            job();
            while let Some(job) = next_job(&bench, patience) {
                job();
            }
        };
        thread::Builder::new().name(self.name.to_owned()).stack_size(self.stack_octets).spawn(work).map(drop)
    }

    /// Lets those end that wait, and from now on everybody whose job is done. Waits for nobody.
    pub fn dismiss(&self) {
        let waiting = {
            let mut bench = lock(&self.bench);
            bench.is_closed = true;
            mem::take(&mut bench.waiting)
        };
        for waiting in waiting {
            waiting.hear(Call::Leave);
            waiting.called.notify_one();
        }
    }
}

impl Waiting {
    fn hear(&self, call: Call) {
        *lock(&self.call) = Some(call);
    }
}

/// Waits for a job in a thread that has done its own. `None` if it is to end.
fn next_job(bench: &Mutex<Bench>, patience: Duration) -> Option<Job> {
    let waiting = Arc::new(Waiting::default());
    {
        let mut bench = lock(bench);
        if bench.is_closed {
            return None;
        }
        bench.waiting.push(Arc::clone(&waiting));
    }
    let called = waiting.called.wait_timeout_while(lock(&waiting.call), patience, |call| call.is_none());
    let mut call = called.map_or_else(|poisoned| poisoned.into_inner().0.take(), |(mut call, _)| call.take());
    if call.is_none() {
        lock(bench).waiting.retain(|other| !Arc::ptr_eq(other, &waiting));
        call = lock(&waiting.call).take();
    }
    match call? {
        Call::Work(job) => Some(job),
        Call::Leave => None,
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew")
            .field("name", &self.name)
            .field("stack_octets", &self.stack_octets)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No panic leaves it half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a thread waits for its next job.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::thread::ThreadId;

    use super::*;

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(600);

    fn crew(patience: Duration) -> Crew {
        Crew { patience, ..Crew::new("crew", 64 * 1024) }
    }

    fn wait_until(is_so: impl Fn() -> bool) {
        while !is_so() {
            thread::yield_now();
        }
    }

    /// Gives a thread a job that ends when it is told to. Which thread it is, and what tells it.
    fn keep_busy(crew: &Crew) -> (ThreadId, Sender<()>) {
        let (told, ends) = mpsc::channel();
        let (says, heard) = mpsc::channel();
        crew.assign(move || {
            says.send(thread::current().id()).unwrap();
            // Either way: told to, or forgotten.
            let _ = ends.recv();
        })
        .unwrap();
        (heard.recv().unwrap(), told)
    }

    fn waiting(crew: &Crew) -> usize {
        lock(&crew.bench).waiting.len()
    }

    /// Hears of the end of the thread on which it was made.
    struct Leaves(#[expect(dead_code, reason = "dropped, it is heard of")] Sender<()>);

    thread_local! {
        static LEAVES: std::cell::RefCell<Option<Leaves>> = const { std::cell::RefCell::new(None) };
    }

    /// Whoever listens to it hears of the end of a thread that waits now.
    fn end_of_one(crew: &Crew) -> Receiver<()> {
        let (leaves, left) = mpsc::channel();
        crew.assign(move || LEAVES.set(Some(Leaves(leaves)))).unwrap();
        left
    }

    #[test]
    fn who_waits_is_called_before_anybody_is_hired() {
        let crew = crew(LONG);
        let ((first, ends), (second, _stays)) = (keep_busy(&crew), keep_busy(&crew));
        assert_ne!(first, second);
        drop(ends);
        wait_until(|| waiting(&crew) == 1);
        let (again, _stays) = keep_busy(&crew);
        assert_eq!(again, first);
        // Whoever is busy for ever is not counted on.
        assert_eq!(waiting(&crew), 0);
        assert!(![first, second].contains(&keep_busy(&crew).0));
        crew.dismiss();
    }

    #[test]
    fn who_came_last_is_called_first() {
        let crew = crew(LONG);
        let mut busy = [(); 3].map(|()| keep_busy(&crew));
        let mut came = Vec::new();
        for (number, (thread, ends)) in busy.iter_mut().enumerate() {
            *ends = mpsc::channel().0;
            wait_until(|| waiting(&crew) == number + 1);
            came.push(*thread);
        }
        let called = [(); 3].map(|()| keep_busy(&crew));
        assert!(called.iter().map(|(thread, _)| thread).eq(came.iter().rev()));
        crew.dismiss();
    }

    #[test]
    fn a_panic_costs_a_thread_and_nothing_else() {
        let crew = crew(LONG);
        let (leaves, left) = mpsc::channel();
        let panics = move || {
            LEAVES.set(Some(Leaves(leaves)));
            panic!("as asked");
        };
        crew.assign(panics).unwrap();
        left.recv().unwrap_err();
        assert_eq!(waiting(&crew), 0);
        let (thread, ends) = keep_busy(&crew);
        drop(ends);
        wait_until(|| waiting(&crew) == 1);
        assert_eq!(keep_busy(&crew).0, thread);
        crew.dismiss();
    }

    #[test]
    fn who_waits_for_nothing_ends() {
        let crew = crew(Duration::from_millis(1));
        end_of_one(&crew).recv().unwrap_err();
        assert_eq!(waiting(&crew), 0);
    }

    #[test]
    fn the_dismissed_end_when_their_jobs_are_done() {
        let crew = crew(LONG);
        let idle = end_of_one(&crew);
        wait_until(|| waiting(&crew) == 1);
        let (told, ends) = mpsc::channel::<()>();
        let (leaves, busy) = mpsc::channel();
        let works = move || {
            LEAVES.set(Some(Leaves(leaves)));
            let _ = ends.recv();
        };
        let (_, holds) = keep_busy(&crew);
        crew.assign(works).unwrap();
        drop(holds);
        crew.dismiss();
        idle.recv().unwrap_err();
        assert_eq!(busy.try_recv(), Err(mpsc::TryRecvError::Empty));
        drop(told);
        busy.recv().unwrap_err();
        // A job that comes late is done all the same.
        end_of_one(&crew).recv().unwrap_err();
        assert_eq!(waiting(&crew), 0);
    }

    #[test]
    fn no_job_is_lost_when_patience_ends() {
        let crew = crew(Duration::ZERO);
        let (does, done) = mpsc::channel();
        for number in 0..10_000 {
            let does = does.clone();
            crew.assign(move || does.send(number).unwrap()).unwrap();
        }
        drop(does);
        let mut numbers: Vec<i32> = done.iter().collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..10_000));
    }
}
