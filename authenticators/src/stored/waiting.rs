//! Who waits for leave to hash, and whose turn is next.
//!
//! Who asks is known by keyed hashes only, in tables of a fixed size: no name is kept, and nobody who does not know the
//! key can choose a name or an address that pushes a given one out.

use std::collections::VecDeque;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    /// The IPv4 address, or the IPv6 network of 64 bits; `None` for a peer without an address.
    pub(super) network: Option<u64>,
    /// The network and the name that wants to log in; `None` for a hash that is no login.
    pub(super) pair: Option<u64>,
}

impl Asker {
    pub(super) const NOBODY: Self = Self { network: None, pair: None };
}

/// The order in which permits are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// The name has logged in from this network, and has had no wrong password since.
    Familiar,
    /// Nothing speaks for it or against it.
    Stranger,
    /// There was a wrong password from the network, and no right one since.
    Suspect,
}

/// Those who wait, each with something to wake it by.
#[derive(Debug)]
pub(super) struct Queue<W> {
    waiters: VecDeque<Waiter<W>>,
    /// How many may wait.
    most: usize,
    familiar: Recent,
    suspects: Recent,
    last_ticket: u64,
    turns: usize,
}

#[derive(Debug)]
struct Waiter<W> {
    ticket: u64,
    class: Class,
    asker: Asker,
    wake: W,
}

impl<W> Queue<W> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            waiters: VecDeque::new(),
            most,
            familiar: Recent::new(FAMILIAR),
            suspects: Recent::new(SUSPECTS),
            last_ticket: 0,
            turns: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Begins to wait. `None` where there is no place for this asker.
    ///
    /// A quarter of the places is for names that are familiar, another one is not for suspects. One network has a quarter
    /// at the most for names that are not familiar, and few places while it is suspect.
    pub(super) fn enter(&mut self, asker: Asker, wake: W) -> Option<u64> {
        let class = self.class(asker);
        let others = || self.waiters.iter().filter(|waiter| waiter.class != Class::Familiar);
        let of_network = || others().filter(|waiter| waiter.asker.network == asker.network).count();
        let (for_others, for_suspects) = (self.most - self.most / 4, self.most.div_ceil(2));
        let is_place = self.waiters.len() < self.most
            && match class {
                Class::Familiar => true,
                Class::Stranger => {
                    let for_network = (self.most / 4).max(1);
                    others().count() < for_others && (asker.network.is_none() || of_network() < for_network)
                }
                Class::Suspect => {
                    let suspects = others().filter(|waiter| waiter.class == Class::Suspect).count();
                    let for_network = (self.most / 32).max(1);
                    others().count() < for_others && suspects < for_suspects && of_network() < for_network
                }
            };
        if !is_place {
            return None;
        }
        self.last_ticket += 1;
        self.waiters.push_back(Waiter { ticket: self.last_ticket, class, asker, wake });
        Some(self.last_ticket)
    }

    /// Waits no longer. `false` for one whose turn has come.
    pub(super) fn leave(&mut self, ticket: u64) -> bool {
        let place = self.waiters.iter().position(|waiter| waiter.ticket == ticket);
        place.and_then(|place| self.waiters.remove(place)).is_some()
    }

    /// Whose turn it is: the one of the best class who has waited longest, and every fourth time the one of all others.
    pub(super) fn next(&mut self) -> Option<W> {
        let best = self.waiters.iter().map(|waiter| waiter.class).min()?;
        let place = |others: bool| self.waiters.iter().position(|waiter| (waiter.class != best) == others);
        let mut next = place(false);
        if let Some(other) = place(true) {
            self.turns = (self.turns + 1) % TURNS;
            if self.turns == 0 {
                next = Some(other);
            }
        }
        self.waiters.remove(next?).map(|waiter| waiter.wake)
    }

    /// The password was right.
    pub(super) fn succeeded(&mut self, asker: Asker) {
        asker.pair.into_iter().for_each(|pair| self.familiar.insert(pair));
        asker.network.into_iter().for_each(|network| self.suspects.remove(network));
    }

    /// The password was wrong, or there is no such user.
    pub(super) fn failed(&mut self, asker: Asker) {
        asker.pair.into_iter().for_each(|pair| self.familiar.remove(pair));
        asker.network.into_iter().for_each(|network| self.suspects.insert(network));
    }

    fn class(&self, asker: Asker) -> Class {
        let waits = |waiter: &Waiter<W>| waiter.class == Class::Familiar && waiter.asker == asker;
        // One place for each, so that the owner of one account cannot take all.
        if asker.pair.is_some_and(|pair| self.familiar.contains(pair)) && !self.waiters.iter().any(waits) {
            Class::Familiar
        } else if asker.network.is_some_and(|network| self.suspects.contains(network)) {
            Class::Suspect
        } else {
            Class::Stranger
        }
    }
}

/// A fixed number of keyed hashes, of which those are forgotten first that were not told of for longest.
#[derive(Debug)]
struct Recent {
    /// Each key has one of these, the latest one first; 0 is none.
    sets: Vec<[u64; WAYS]>,
}

impl Recent {
    fn new(keys: usize) -> Self {
        Self { sets: vec![[0; WAYS]; keys.div_ceil(WAYS)] }
    }

    fn contains(&self, key: u64) -> bool {
        let key = key.max(1);
        self.sets.get(self.place(key)).is_some_and(|set| set.contains(&key))
    }

    fn insert(&mut self, key: u64) {
        let (key, place) = (key.max(1), self.place(key.max(1)));
        let Some(set) = self.sets.get_mut(place) else { return };
        let last = set.iter().position(|known| *known == key).unwrap_or(WAYS - 1);
        if let Some(upto) = set.get_mut(..=last) {
            upto.rotate_right(1);
        }
        if let Some(first) = set.first_mut() {
            *first = key;
        }
    }

    fn remove(&mut self, key: u64) {
        let (key, place) = (key.max(1), self.place(key.max(1)));
        let Some(set) = self.sets.get_mut(place) else { return };
        if let Some(at) = set.iter().position(|known| *known == key)
            && let Some(behind) = set.get_mut(at..)
        {
            behind.rotate_left(1);
            if let Some(last) = behind.last_mut() {
                *last = 0;
            }
        }
    }

    fn place(&self, key: u64) -> usize {
        usize::try_from(key % self.sets.len() as u64).unwrap_or_default()
    }
}

/// How many pairs of a network and a name are remembered: 128 KiB.
const FAMILIAR: usize = 16 * 1024;
/// How many networks from which wrong passwords came: 32 KiB.
const SUSPECTS: usize = 4 * 1024;
const WAYS: usize = 8;
/// One turn of so many is for those who are not of the best class.
const TURNS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(network: u64, name: u64) -> Asker {
        Asker { network: Some(network), pair: Some(network << 32 | name) }
    }

    fn order(queue: &mut Queue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    #[test]
    fn strangers_take_turns_as_they_came() {
        let mut queue = Queue::new(8);
        for (number, name) in ["first", "second", "third"].into_iter().enumerate() {
            queue.enter(asker(number as u64, 1), name).unwrap();
        }
        assert_eq!(order(&mut queue), ["first", "second", "third"]);
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_name_that_logged_in_from_there_goes_first_and_finds_a_place_in_a_queue_full_of_strangers() {
        let mut queue = Queue::new(8);
        queue.succeeded(asker(7, 1));
        let strangers = (100..120).filter(|network| queue.enter(asker(*network, 1), "stranger").is_some()).count();
        assert_eq!(strangers, 6);
        // The name from elsewhere, and another one from there, are strangers.
        assert!(queue.enter(asker(8, 1), "elsewhere").is_none());
        assert!(queue.enter(asker(7, 2), "another").is_none());
        queue.enter(asker(7, 1), "familiar").unwrap();
        assert_eq!(queue.next(), Some("familiar"));
        assert_eq!(queue.next(), Some("stranger"));
    }

    #[test]
    fn a_familiar_name_has_one_place_and_a_wrong_password_ends_that() {
        let mut queue = Queue::new(8);
        queue.succeeded(asker(7, 1));
        queue.enter(asker(6, 1), "stranger").unwrap();
        queue.enter(asker(7, 1), "familiar").unwrap();
        queue.enter(asker(7, 1), "the same again").unwrap();
        assert_eq!(order(&mut queue), ["familiar", "stranger", "the same again"]);
        queue.failed(asker(7, 1));
        queue.enter(asker(6, 1), "stranger").unwrap();
        queue.enter(asker(7, 1), "no longer familiar").unwrap();
        assert_eq!(order(&mut queue), ["stranger", "no longer familiar"]);
    }

    #[test]
    fn one_network_has_a_quarter_of_the_places_and_few_while_it_is_suspect() {
        let mut queue = Queue::new(64);
        let enter = |queue: &mut Queue<()>, network| {
            (0..64).filter(|name| queue.enter(asker(network, *name), ()).is_some()).count()
        };
        assert_eq!(enter(&mut queue, 1), 16);
        queue.failed(asker(2, 1));
        assert_eq!(enter(&mut queue, 2), 2);
        assert_eq!(enter(&mut queue, 3), 16);
        // A right password clears it, and the name that had it has a place of its own.
        queue.succeeded(asker(2, 1));
        assert_eq!(enter(&mut queue, 2), 14 + 1);
    }

    #[test]
    fn networks_with_wrong_passwords_wait_behind_others_and_leave_them_places() {
        let mut queue = Queue::new(16);
        for network in 0..100 {
            queue.failed(asker(network, 1));
        }
        let suspects = (0..100).filter(|network| queue.enter(asker(*network, 2), "suspect").is_some()).count();
        assert_eq!(suspects, 8);
        queue.enter(asker(200, 1), "stranger").unwrap();
        queue.succeeded(asker(1, 1));
        queue.enter(asker(1, 1), "familiar").unwrap();
        assert_eq!([queue.next(), queue.next()], [Some("familiar"), Some("stranger")]);
        assert_eq!(queue.len(), 8);
    }

    #[test]
    fn those_behind_have_a_turn_in_four() {
        let mut queue = Queue::new(100);
        queue.failed(asker(1, 1));
        for _ in 0..2 {
            queue.enter(asker(1, 1), "suspect").unwrap();
        }
        for network in 10..20 {
            queue.enter(asker(network, 1), "stranger").unwrap();
        }
        let order = order(&mut queue);
        let turns: Vec<_> = (0..order.len()).filter(|turn| order[*turn] == "suspect").collect();
        assert_eq!(turns, [3, 7]);
    }

    #[test]
    fn who_has_no_address_is_one_of_many() {
        let mut queue = Queue::new(16);
        let local = Asker { network: None, pair: Some(1) };
        queue.failed(local);
        assert_eq!((0..100).filter(|_| queue.enter(local, ()).is_some()).count(), 12);
        queue.succeeded(local);
        assert!(queue.enter(local, ()).is_some());
    }

    #[test]
    fn who_leaves_has_no_turn() {
        let mut queue = Queue::new(8);
        let first = queue.enter(asker(1, 1), "first").unwrap();
        let second = queue.enter(asker(2, 1), "second").unwrap();
        assert!(queue.leave(first) && !queue.leave(first));
        assert_eq!(queue.next(), Some("second"));
        assert!(!queue.leave(second));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let mut recent = Recent::new(WAYS);
        for key in 1..=WAYS as u64 {
            recent.insert(key);
        }
        // The first is told of again, so the second is forgotten.
        recent.insert(1);
        recent.insert(100);
        assert!(recent.contains(1) && recent.contains(100) && !recent.contains(2));
        recent.remove(3);
        recent.remove(3);
        recent.insert(0);
        assert!(!recent.contains(3) && recent.contains(0) && recent.contains(4));
        assert_eq!(recent.sets.len(), 1);
        for key in 0..1_000_000 {
            recent.insert(key);
        }
        assert_eq!(recent.sets.len(), 1);
    }
}
