//! The claims that may matter still, by key: bounded by what is alive, and by a number.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{REMEMBERED, Standing, Unclaimed};

/// Claims that are remembered, at most: about 250 MB of them. More requests with a key are refused until some are
/// forgotten.
const MOST: usize = 1_000_000;
/// Claims that were sent and not read back, those included that nobody waits for.
const MOST_PENDING: usize = 8192;

pub(super) struct Table {
    keys: HashMap<u128, Vec<Known>>,
    /// In the order in which they were read.
    order: VecDeque<(u128, u64)>,
    /// By claimant.
    pending: HashMap<u64, Pending>,
    longest: Duration,
    /// Until then there may be claims alive that there was no room for, of whatever key.
    blind_until: Option<Instant>,
}

/// A claim that was read.
pub(super) struct Known {
    pub(super) claimant: u64,
    pub(super) fingerprint: u64,
    pub(super) seen: Instant,
    pub(super) life: Duration,
    /// Nothing was or will be published under it: this process knows its own.
    pub(super) over: bool,
}

/// One of this process that hasn't been read back yet.
pub(super) struct Pending {
    pub(super) sent: Instant,
    pub(super) fingerprint: u64,
    /// None when it was given up.
    pub(super) standing: Option<oneshot::Sender<Standing>>,
}

impl Table {
    pub(super) fn new(longest: Duration) -> Self {
        let (keys, order, pending) = (HashMap::new(), VecDeque::new(), HashMap::new());
        Self { keys, order, pending, longest, blind_until: None }
    }

    /// How long any claim may have to be remembered.
    pub(super) fn longest(&self) -> Duration {
        self.longest + REMEMBERED
    }

    pub(super) fn send(
        &mut self,
        hash: u128,
        claimant: u64,
        pending: Pending,
        life: Duration,
    ) -> Result<(), Unclaimed> {
        let now = pending.sent;
        self.longest = self.longest.max(life);
        self.forget(now);
        match self.standing(hash, &pending) {
            Standing::Holds { .. } => {}
            Standing::Lost => return Err(Unclaimed::Lost),
            Standing::Taken => return Err(Unclaimed::Taken),
        }
        if self.pending.len() >= MOST_PENDING {
            let longest = self.longest();
            self.pending.retain(|_, p| p.standing.is_some() || now - p.sent < longest);
        }
        if self.pending.len() >= MOST_PENDING || self.is_blind(now) {
            return Err(Unclaimed::TooMany);
        }
        self.pending.insert(claimant, pending);
        Ok(())
    }

    pub(super) fn read(&mut self, hash: u128, mut claim: Known, now: Instant) {
        self.forget(now);
        let known = self.keys.get(&hash);
        if known.is_some_and(|known| known.iter().any(|known| known.claimant == claim.claimant)) {
            return;
        }
        if let Some(mut pending) = self.pending.remove(&claim.claimant) {
            let standing = self.standing(hash, &pending);
            claim.over = !matches!(standing, Standing::Holds { .. });
            let told = pending.standing.take().is_some_and(|waiting| waiting.send(standing).is_ok());
            claim.over |= !told;
        }
        self.longest = self.longest.max(claim.life);
        if self.order.len() >= MOST {
            self.blind_until = self.blind_until.max(Some(now + claim.life));
            return;
        }
        self.order.push_back((hash, claim.claimant));
        // As a rule it stays alone.
        self.keys.entry(hash).or_insert_with(|| Vec::with_capacity(1)).push(claim);
    }

    /// Of one that comes after all that were read.
    fn standing(&self, hash: u128, claim: &Pending) -> Standing {
        if self.is_blind(claim.sent) || self.order.len() >= MOST {
            return Standing::Lost;
        }
        let others = self.keys.get(&hash).into_iter().flatten().filter(|known| !known.over);
        let mut contested = false;
        for other in others {
            contested = true;
            if claim.sent.saturating_duration_since(other.seen) <= other.life {
                return if other.fingerprint == claim.fingerprint { Standing::Lost } else { Standing::Taken };
            }
        }
        Standing::Holds { contested }
    }

    fn is_blind(&self, at: Instant) -> bool {
        self.blind_until.is_some_and(|until| at <= until)
    }

    pub(super) fn is_over(&mut self, hash: u128, claimant: u64) {
        if let Some(pending) = self.pending.get_mut(&claimant) {
            pending.standing = None;
        }
        let mut known = self.keys.get_mut(&hash).into_iter().flatten();
        if let Some(known) = known.find(|known| known.claimant == claimant) {
            known.over = true;
        }
    }

    /// The first ones, as long as they are old enough: where lives differ, some stay a while longer.
    fn forget(&mut self, now: Instant) {
        while let Some((hash, claimant)) = self.order.front().copied() {
            let Some(known) = self.keys.get_mut(&hash) else { unreachable!("it is in the order") };
            let first = known.iter().position(|known| known.claimant == claimant);
            if let Some(first) = first {
                let old = now.saturating_duration_since(known[first].seen);
                if old <= known[first].life + REMEMBERED {
                    return;
                }
                known.remove(first);
            }
            if known.is_empty() {
                self.keys.remove(&hash);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(45);

    /// A host, its log being the test's.
    struct Host {
        table: Table,
        next: u64,
        start: Instant,
    }

    impl Host {
        fn new(number: u64) -> Self {
            Self { table: Table::new(LIFE), next: number * 1000, start: Instant::now() }
        }

        /// Seconds from the start on.
        fn send(&mut self, at: u64, body: u64) -> Result<(u64, oneshot::Receiver<Standing>), Unclaimed> {
            let (sender, standing) = oneshot::channel();
            let sent = self.start + Duration::from_secs(at);
            self.next += 1;
            let pending = Pending { sent, fingerprint: body, standing: Some(sender) };
            self.table.send(7, self.next, pending, LIFE).map(|()| (self.next, standing))
        }

        fn read(&mut self, at: u64, claimant: u64, body: u64) {
            let seen = self.start + Duration::from_secs(at);
            let claim = Known { claimant, fingerprint: body, seen, life: LIFE, over: false };
            self.table.read(7, claim, seen);
        }
    }

    #[test]
    fn of_two_claims_the_first_one_in_the_log_holds() {
        let (mut one, mut two) = (Host::new(1), Host::new(2));
        let (first, mut of_one) = one.send(0, 1).unwrap();
        let (second, mut of_two) = two.send(0, 1).unwrap();
        for host in [&mut one, &mut two] {
            host.read(1, first, 1);
            host.read(1, second, 1);
        }
        assert_eq!(of_one.try_recv(), Ok(Standing::Holds { contested: false }));
        assert_eq!(of_two.try_recv(), Ok(Standing::Lost));
        assert_eq!(two.send(44, 1).unwrap_err(), Unclaimed::Lost);
        assert_eq!(two.send(44, 2).unwrap_err(), Unclaimed::Taken);
    }

    #[test]
    fn a_claim_is_void_when_it_has_been_known_for_longer_than_its_life_before_the_next_was_sent() {
        let mut two = Host::new(2);
        two.read(1, 1, 1);
        let (claimant, mut standing) = two.send(47, 2).unwrap();
        two.read(48, claimant, 2);
        assert_eq!(standing.try_recv(), Ok(Standing::Holds { contested: true }));

        // It was sent before it could know of the other one: when that was read says nothing of its age.
        let mut late = Host::new(3);
        let (claimant, mut standing) = late.send(0, 1).unwrap();
        late.read(100, 1, 1);
        late.read(200, claimant, 1);
        assert_eq!(standing.try_recv(), Ok(Standing::Lost));
    }

    #[test]
    fn what_this_process_gave_up_is_in_nobodys_way_here_and_counts_for_others() {
        let (mut one, mut two) = (Host::new(1), Host::new(2));
        let (given_up, standing) = one.send(0, 1).unwrap();
        drop(standing);
        one.table.is_over(7, given_up);
        one.read(5, given_up, 1);
        two.read(5, given_up, 1);
        assert!(one.send(6, 1).is_ok());
        assert_eq!(two.send(6, 1).unwrap_err(), Unclaimed::Lost);
    }

    #[test]
    fn a_log_that_is_read_again_changes_nothing_and_old_claims_are_forgotten() {
        let mut one = Host::new(1);
        let (claimant, mut standing) = one.send(0, 1).unwrap();
        one.read(1, claimant, 1);
        one.read(30, claimant, 1);
        assert_eq!(standing.try_recv(), Ok(Standing::Holds { contested: false }));
        assert_eq!(one.table.order.len(), 1);
        assert!(one.send(47, 1).is_ok());
        one.read(1 + 45 + 61, 99, 1);
        assert_eq!((one.table.order.len(), one.table.keys[&7].len()), (1, 1));
    }

    #[test]
    fn beyond_what_can_be_remembered_no_claim_holds() {
        let mut one = Host::new(1);
        let (claimant, mut standing) = one.send(0, 1).unwrap();
        let seen = one.start;
        for other in 0..MOST as u64 + 1 {
            let claim = Known { claimant: 1 << 40 | other, fingerprint: 1, seen, life: LIFE, over: false };
            one.table.read(u128::from(other) << 64, claim, seen);
        }
        one.read(1, claimant, 1);
        assert_eq!(standing.try_recv(), Ok(Standing::Lost));
        assert!(one.send(2, 1).is_err());
        assert!(one.send(45 + 61, 1).is_ok());
    }
}
