//! Inputs that are read ahead of the module: a queue between the readers and the run, in the order of the run.
//!
//! An input of a period is a job. Readers take the jobs in their order and may finish them in another; the run takes them in
//! order. Readers are at most [`AHEAD`] jobs before the run, and the rows of all jobs share one memory (see `order.rs`).

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::crossing::{CrossedInput, CrossingError};

/// Jobs that may be begun before the run asks for the first of them: one for each reader, and one that waits.
const AHEAD: usize = READERS_MAX + 1;

/// Threads that read. More would only wait for the one that runs the module.
pub(crate) const READERS_MAX: usize = 2;

/// The queue.
pub(crate) struct ReadAhead {
    jobs: usize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The next job that nobody has begun.
    next: usize,
    /// The next job that the run asks for.
    wanted: usize,
    read: BTreeMap<usize, Result<CrossedInput, CrossingError>>,
    readers: usize,
    stopped: bool,
}

impl ReadAhead {
    /// A queue of so many jobs for so many readers.
    pub(crate) fn new(jobs: usize, readers: usize) -> Self {
        let state = State { next: 0, wanted: 0, read: BTreeMap::new(), readers, stopped: false };
        Self { jobs, state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment or insertion: a thread that panicked has left nothing half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// What one reader does: reads job after job until none is left or the run is over.
    pub(crate) fn read_jobs(&self, mut read: impl FnMut(usize) -> Result<CrossedInput, CrossingError>) {
        let _gone = Gone(self);
        while let Some(job) = self.begin() {
            let read = read(job);
            let mut state = self.state();
            if read.is_err() {
                // The run ends there; those that are being read come to nothing.
                state.next = self.jobs;
            }
            state.read.insert(job, read);
            drop(state);
            self.changed.notify_all();
        }
    }

    fn begin(&self) -> Option<usize> {
        let mut state = self.state();
        while !state.stopped && state.next < self.jobs && state.next >= state.wanted + AHEAD {
            state = self.wait(state);
        }
        if state.stopped || state.next >= self.jobs {
            return None;
        }
        state.next += 1;
        Some(state.next - 1)
    }

    /// The next job's rows, once they are read; `None` if there is nobody to read them.
    pub(crate) fn take(&self) -> Option<Result<CrossedInput, CrossingError>> {
        let mut state = self.state();
        loop {
            let wanted = state.wanted;
            if let Some(read) = state.read.remove(&wanted) {
                state.wanted += 1;
                drop(state);
                self.changed.notify_all();
                return Some(read);
            }
            if state.readers == 0 {
                return None;
            }
            state = self.wait(state);
        }
    }

    /// The run is over, well or badly: readers stop as soon as they notice.
    pub(crate) fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        state.read.clear();
        drop(state);
        self.changed.notify_all();
    }

    /// Whether [`ReadAhead::stop`] was called.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state().stopped
    }
}

/// A reader that leaves, also by a panic.
struct Gone<'a>(&'a ReadAhead);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.state().readers -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::order::{Chunk, Collector, RowMemory};

    fn input(job: usize) -> CrossedInput {
        let folder = std::env::temp_dir();
        let rows = Collector::new(Chunk { columns: Vec::new() }, RowMemory::of_a_run(), &folder);
        CrossedInput { rows: rows.finish().unwrap(), codes: vec![job as u32], counts: Default::default() }
    }

    #[test]
    fn jobs_are_taken_in_order_and_few_are_begun_before_they_are_wanted() {
        let queue = ReadAhead::new(50, READERS_MAX);
        let begun = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..READERS_MAX {
                scope.spawn(|| {
                    queue.read_jobs(|job| {
                        begun.fetch_add(1, Ordering::SeqCst);
                        Ok(input(job))
                    });
                });
            }
            for job in 0..50 {
                let taken = queue.take().unwrap().unwrap();
                assert_eq!(taken.codes, [job as u32]);
                assert!(begun.load(Ordering::SeqCst) <= job + 1 + AHEAD);
            }
            assert!(queue.take().is_none());
        });
    }

    #[test]
    fn an_error_comes_in_its_turn_and_nothing_after_it_is_begun() {
        let queue = ReadAhead::new(10, 1);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                queue.read_jobs(|job| {
                    if job == 1 { Err(CrossingError::Table("t".to_owned())) } else { Ok(input(job)) }
                });
            });
            assert!(queue.take().unwrap().is_ok());
            assert!(queue.take().unwrap().is_err());
            assert!(queue.take().is_none());
        });
    }

    #[test]
    fn a_reader_that_panics_is_noticed_and_one_that_waits_is_stopped() {
        let queue = ReadAhead::new(10, 2);
        std::thread::scope(|scope| {
            let panics = scope.spawn(|| queue.read_jobs(|_| panic!("a reader")));
            let waits = scope.spawn(|| {
                while queue.state().readers > 1 {
                    std::thread::yield_now();
                }
                queue.read_jobs(|job| Ok(input(job)));
            });
            assert!(panics.join().is_err());
            queue.stop();
            waits.join().unwrap();
            assert!(queue.take().is_none());
        });
    }
}
