//! Commits that go out while their shard polls and runs on.
//!
//! A thread commits what the shard has handed over, one transaction at a time. What comes meanwhile is gathered in one
//! open commit, which goes out next: commits are small while little comes and full when much does, and nobody waits to
//! fill one. The committers take turns, because for a while after a transaction the broker is still writing its markers,
//! and whoever begins the next one under the same transactional.id is told to come again. While little comes the first one is
//! enough, and the others are let go of: a producer has threads that wake every second, connections and memory.
//!
//! It stays exactly once, because
//! - commits go out in the order in which they were handed over, each when the one before is answered: its offsets (the
//!   broker keeps the later of two that are pending), its records, and its end;
//! - when one fails, the open one behind it is dropped, and so is all that the shard hands over before it has heard of
//!   it: the shard begins anew from what is committed;
//! - the membership travels with each commit, from the poll that gave its events. One that was asked for later would vouch
//!   for partitions that somebody else owns by then. So only what has the same one goes into one commit;
//! - all committers begin before the shard subscribes: none of them has left a transaction open that would hold up who
//!   reads the committed offsets.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

use super::{Answer, Commit, CommitError, Commits, Committer, LogError};

/// Records of one commit that was gathered, and their bytes: a single one that was handed over may have more.
const MOST_RECORDS: usize = 2000;
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// Of one commit that was gathered, should they publish nothing.
const MOST_SUBMISSIONS: usize = 100;
/// The broker has written the markers of a transaction by then, most often.
const MARKERS: Duration = Duration::from_millis(50);
/// So many commits must follow each other within that time before another committer makes its producer anew, which takes longer.
const CLOSE_COMMITS: u32 = 3;
/// After so long without a commit all but one committer let go of their producers.
const RELEASE_AFTER: Duration = Duration::from_secs(5);

/// What goes out next.
pub(super) struct Open<M> {
    pub(super) commit: Commit,
    pub(super) membership: M,
    pub(super) submissions: usize,
    bytes: usize,
}

impl<M: PartialEq> Open<M> {
    pub(super) fn new(commit: Commit, membership: M) -> Self {
        let bytes = commit.bytes();
        Self { commit, membership, submissions: 1, bytes }
    }

    /// Adds a commit that comes later, or gives it back where it must wait.
    pub(super) fn add(&mut self, commit: Commit, membership: &M) -> Result<(), Commit> {
        let bytes = commit.bytes();
        if self.membership != *membership
            || self.submissions >= MOST_SUBMISSIONS
            || self.commit.publish.len() + commit.publish.len() > MOST_RECORDS
            || self.bytes + bytes > MOST_BYTES
        {
            return Err(commit);
        }
        self.commit.publish.extend(commit.publish);
        self.commit.progress.extend(commit.progress);
        self.submissions += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// What comes of it.
    pub(super) fn answered(self, result: Result<(), CommitError>) -> Answer {
        let Self { commit, submissions, .. } = self;
        Answer { submissions, result: result.map_err(|error| (error, commit)) }
    }
}

/// The shard's end of it.
pub struct Overlapped<C: Committer> {
    desk: Arc<Desk<C::Membership>>,
    thread: Option<JoinHandle<()>>,
}

/// Between the shard's thread and the one that commits.
struct Desk<M> {
    state: Mutex<State<M>>,
    changed: Condvar,
}

struct State<M> {
    /// None after a failure.
    open: Option<Open<M>>,
    is_committing: bool,
    /// Not heard by the shard.
    answers: VecDeque<Answer>,
    /// A commit has failed, and nothing goes out until the shard has asked for a recovery.
    has_failed: bool,
    recovery: Recovery,
    /// How long the committers may take to close, once they are to.
    close: Option<Duration>,
    /// The thread has ended.
    is_over: bool,
}

enum Recovery {
    None,
    Wanted,
    Done(Result<(), LogError>),
}

/// Tells when nothing is on its way, for whoever gives partitions back.
pub struct Departure(Box<dyn Fn(Duration) + Send + Sync>);

impl Departure {
    /// Waits until nothing is on its way, at most so long.
    pub(super) fn wait(&self, limit: Duration) {
        (self.0)(limit);
    }
}

impl<M> Desk<M> {
    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<M>>) -> MutexGuard<'a, State<M>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> State<M> {
    fn is_quiet(&self) -> bool {
        self.is_over || !self.is_committing && self.open.is_none()
    }
}

impl<C> Overlapped<C>
where
    C: Committer + Send + 'static,
    C::Membership: Clone + PartialEq + Send + 'static,
{
    /// Commits by the first of these, and by the others as well while the broker may still be at its last transaction. `name` is
    /// the thread's.
    pub fn new(committers: Vec<C>, name: String) -> io::Result<Self> {
        let state = State {
            open: None,
            is_committing: false,
            answers: VecDeque::new(),
            has_failed: false,
            recovery: Recovery::None,
            close: None,
            is_over: false,
        };
        let desk = Arc::new(Desk { state: Mutex::new(state), changed: Condvar::new() });
        let its = Arc::clone(&desk);
        let thread = thread::Builder::new().name(name).spawn(move || {
            let _however_it_ends = Over(&its);
            work(&its, committers);
        })?;
        Ok(Self { desk, thread: Some(thread) })
    }

    /// For the source of the same shard.
    pub fn departure(&self) -> Departure {
        let desk = Arc::clone(&self.desk);
        Departure(Box::new(move |limit| {
            let until = Instant::now() + limit;
            let mut state = desk.lock();
            while !state.is_quiet() {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return;
                }
                state = desk.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }))
    }
}

/// Says that the thread has ended.
struct Over<'a, M>(&'a Desk<M>);

impl<M> Drop for Over<'_, M> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_all();
    }
}

fn work<C>(desk: &Desk<C::Membership>, mut committers: Vec<C>)
where
    C: Committer,
    C::Membership: PartialEq,
{
    let mut turns = Turns::of(committers.len());
    let mut state = desk.lock();
    loop {
        if let Recovery::Wanted = state.recovery {
            drop(state);
            let recovered = committers.iter_mut().try_for_each(C::recover);
            state = desk.lock();
            turns.released = false;
            state.has_failed &= recovered.is_err();
            state.recovery = Recovery::Done(recovered);
            desk.changed.notify_all();
        } else if let Some(open) = state.open.take() {
            state.is_committing = true;
            desk.changed.notify_all();
            drop(state);
            let turn = turns.next(Instant::now());
            let result = committers[turn].commit(&open.commit, &open.membership);
            turns.ended(turn, Instant::now());
            state = desk.lock();
            state.is_committing = false;
            if result.is_err() {
                state.has_failed = true;
                state.open = None;
            }
            state.answers.push_back(open.answered(result));
            desk.changed.notify_all();
        } else if let Some(deadline) = state.close {
            drop(state);
            let each = deadline / committers.len() as u32;
            committers.into_iter().for_each(|committer| committer.close(each));
            return;
        } else if turns.released {
            state = desk.wait(state);
        } else {
            let (waited, timeout) =
                desk.changed.wait_timeout(state, RELEASE_AFTER).unwrap_or_else(PoisonError::into_inner);
            state = waited;
            if timeout.timed_out() && state.is_quiet() {
                drop(state);
                committers[1..].iter_mut().for_each(C::release);
                turns.released = true;
                state = desk.lock();
            }
        }
    }
}

/// Which committer is next.
struct Turns {
    /// When each of them ended its last transaction.
    ended: Vec<Option<Instant>>,
    /// Commits in a row for which the first one was not free.
    close: u32,
    /// All but the first have let go of their producers.
    released: bool,
}

impl Turns {
    fn of(committers: usize) -> Self {
        Self { ended: vec![None; committers], close: 0, released: false }
    }

    /// The first one, unless the broker may still be at its last transaction; then who has waited longest.
    fn next(&mut self, now: Instant) -> usize {
        let is_free = self.ended[0].is_none_or(|at| now.saturating_duration_since(at) >= MARKERS);
        self.close = if is_free { 0 } else { self.close + 1 };
        if is_free || self.released && self.close < CLOSE_COMMITS {
            return 0;
        }
        (0..self.ended.len()).min_by_key(|committer| self.ended[*committer]).unwrap_or_default()
    }

    fn ended(&mut self, committer: usize, now: Instant) {
        self.ended[committer] = Some(now);
        self.released &= committer == 0;
    }
}

impl<C> Commits for Overlapped<C>
where
    C: Committer,
    C::Membership: Clone + PartialEq,
{
    type Membership = C::Membership;

    fn submit(&mut self, commit: Commit, membership: &C::Membership) {
        let mut state = self.desk.lock();
        let mut commit = commit;
        loop {
            if state.has_failed || state.is_over {
                return;
            }
            commit = match &mut state.open {
                None => {
                    state.open = Some(Open::new(commit, membership.clone()));
                    break;
                }
                Some(open) => match open.add(commit, membership) {
                    Ok(()) => return,
                    Err(commit) => commit,
                },
            };
            state = self.desk.wait(state);
        }
        self.desk.changed.notify_all();
    }

    fn answer(&mut self) -> Option<Answer> {
        let mut state = self.desk.lock();
        let answer = state.answers.pop_front();
        if answer.is_none() && state.is_over {
            let died = CommitError::Fatal("the thread that commits has died".into());
            return Some(Answer { submissions: 0, result: Err((died, Commit::default())) });
        }
        answer
    }

    fn settle(&mut self) {
        let mut state = self.desk.lock();
        while !state.is_quiet() {
            state = self.desk.wait(state);
        }
    }

    fn recover(&mut self) -> Result<(), LogError> {
        let mut state = self.desk.lock();
        state.recovery = Recovery::Wanted;
        self.desk.changed.notify_all();
        loop {
            match mem::replace(&mut state.recovery, Recovery::None) {
                Recovery::Done(result) => return result,
                _ if state.is_over => return Err(LogError::Fatal("the thread that commits has died".into())),
                wanted => state.recovery = wanted,
            }
            state = self.desk.wait(state);
        }
    }

    fn close(self, deadline: Duration) {
        self.desk.lock().close = Some(deadline);
    }
}

impl<C: Committer> Drop for Overlapped<C> {
    /// What was handed over goes out first.
    fn drop(&mut self) {
        self.desk.lock().close.get_or_insert(Duration::from_secs(3));
        self.desk.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has told of its own panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_has_its_turn_whenever_it_is_free_and_else_who_waited_longest() {
        let start = Instant::now();
        let mut turns = Turns::of(2);
        let mut at = |ms, released| {
            let now = start + Duration::from_millis(ms);
            turns.released |= released;
            let turn = turns.next(now);
            turns.ended(turn, now);
            turn
        };
        assert_eq!([0, 100, 110, 120, 130, 190, 300].map(|ms| at(ms, false)), [0, 0, 1, 0, 1, 0, 0]);
        // A producer isn't made for a commit or two.
        assert_eq!([6000, 6010, 6020].map(|ms| at(ms, true)), [0, 0, 0]);
        assert_eq!([7000, 7010, 7020, 7030, 7040].map(|ms| at(ms, false)), [0, 0, 0, 1, 0]);
        let mut alone = Turns::of(1);
        assert_eq!([alone.next(start), alone.next(start)], [0, 0]);
    }

    /// Tells when it is asked to let go.
    struct Told {
        number: usize,
        told: Arc<Mutex<Vec<usize>>>,
    }

    impl Committer for Told {
        type Membership = ();

        fn recover(&mut self) -> Result<(), LogError> {
            Ok(())
        }

        fn commit(&mut self, _commit: &Commit, (): &()) -> Result<(), CommitError> {
            Ok(())
        }

        fn release(&mut self) {
            self.told.lock().unwrap().push(self.number);
        }

        fn close(self, _deadline: Duration) {}
    }

    #[test]
    fn all_but_the_first_let_go_when_nothing_comes() {
        let told = Arc::default();
        let committers = (0..2).map(|number| Told { number, told: Arc::clone(&told) }).collect();
        let commits = Overlapped::new(committers, "commits".into()).unwrap();
        let deadline = Instant::now() + 10 * RELEASE_AFTER;
        while told.lock().unwrap().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        drop(commits);
        assert_eq!(*told.lock().unwrap(), [1]);
    }
}
