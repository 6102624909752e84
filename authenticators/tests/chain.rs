//! A chain: whoever knows the user answers, and nobody else.

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sansmtp::{AuthRequest, AuthResult, Refusal};
use sansmtp_authenticators::{Addresses, Answers, Authenticator, Chain, Knows};
use support::battery::{Backend, USERS, battery};
use support::login::{Door, auth};
use support::scripted::{Asked, Scripted, Users, looked_up, when_asked};

/// One that says this of a user.
type Member = (&'static str, Knows, Say);

/// What a member can say.
const MEMBERS: [Member; 12] = [
    ("knows, right password", Knows::Yes, Say::Accept),
    ("knows, wrong password", Knows::Yes, Say::Refuse(Refusal::BadCredentials)),
    ("knows, disabled", Knows::Yes, Say::Refuse(Refusal::Disabled)),
    ("knows, has no keys yet", Knows::Yes, Say::Refuse(Refusal::PasswordTransitionNeeded)),
    ("knows, has nothing for the mechanism", Knows::Yes, Say::CannotTell),
    ("does not know", Knows::No, Say::Refuse(Refusal::UnknownUser)),
    ("does not know, has nothing for the mechanism", Knows::No, Say::CannotTell),
    ("asked, right password", Knows::WhenAsked, Say::Accept),
    ("asked, wrong password", Knows::WhenAsked, Say::Refuse(Refusal::BadCredentials)),
    ("asked, does not know", Knows::WhenAsked, Say::Refuse(Refusal::UnknownUser)),
    ("asked, broken", Knows::WhenAsked, Say::CannotTell),
    ("broken", Knows::CannotTell, Say::MustNotBeAsked),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    Accept,
    Refuse(Refusal),
    CannotTell,
    MustNotBeAsked,
}

impl Say {
    fn code(self) -> u16 {
        match self {
            Self::Accept => 235,
            Self::Refuse(Refusal::PasswordTransitionNeeded) => 432,
            Self::Refuse(_) => 535,
            Self::CannotTell | Self::MustNotBeAsked => 454,
        }
    }

    fn result(self) -> Option<AuthResult> {
        match self {
            Self::Accept => Some(AuthResult::accept()),
            Self::Refuse(refusal) => Some(AuthResult::refuse_because(refusal)),
            Self::CannotTell => Some(AuthResult::cannot_tell()),
            Self::MustNotBeAsked => None,
        }
    }
}

fn chain(members: &[Member]) -> (Chain, Asked) {
    let asked = Asked::default();
    let member = |(name, &(_, knows, say)): (usize, &Member)| Scripted {
        name,
        knows,
        result: say.result(),
        asked: asked.clone(),
    };
    (members.iter().enumerate().map(member).collect(), asked)
}

/// The code, and who has to be asked what, written down from the rules and not from the code.
fn expected(members: &[Member]) -> (u16, Vec<String>) {
    let mut asked = Vec::new();
    for (name, &(_, knows, say)) in members.iter().enumerate() {
        asked.push(format!("{name} knows"));
        if knows == Knows::CannotTell {
            return (454, asked);
        }
        if knows != Knows::No {
            asked.push(format!("{name} authenticates"));
            if say != Say::Refuse(Refusal::UnknownUser) {
                return (say.code(), asked);
            }
        }
    }
    for (name, &(_, knows, say)) in members.iter().enumerate().rev() {
        if knows == Knows::No {
            asked.push(format!("{name} authenticates"));
        }
        if say == Say::Refuse(Refusal::UnknownUser) {
            return (535, asked);
        }
    }
    (454, asked)
}

fn combinations(length: usize) -> Vec<Vec<Member>> {
    (0..length).fold(vec![Vec::new()], |shorter, _| {
        let longer = |members: &Vec<Member>| MEMBERS.map(|member| [members.as_slice(), &[member]].concat());
        shorter.iter().flat_map(longer).collect()
    })
}

fn told(members: &[Member]) -> Vec<&str> {
    members.iter().map(|(told, _, _)| *told).collect()
}

#[test]
fn every_combination_of_up_to_three() {
    let mut codes = std::collections::BTreeMap::<u16, usize>::new();
    for members in (0..=3).flat_map(combinations) {
        let (chain, asked) = chain(&members);
        let code = chain.log_in("tim", "tanstaaftanstaaf");
        assert_eq!((code, asked.lock().unwrap().clone()), expected(&members), "{:?}", told(&members));
        *codes.entry(code).or_default() += 1;
    }
    assert_eq!(codes.keys().collect::<Vec<_>>(), [&235, &432, &454, &535]);
    assert_eq!(codes.values().sum::<usize>(), 1 + 12 + 144 + 1728);
}

/// What a chain of chains needs: that one answers for all of its own.
#[test]
fn a_chain_within_a_chain_is_as_good_as_its_members() {
    for members in combinations(3) {
        let (flat, _) = chain(&members);
        for split in 0..=3 {
            let (first, _) = chain(&members[..split]);
            let (second, _) = chain(&members[split..]);
            let nested = Chain::new().then(first).then(second);
            let code = flat.log_in("tim", "tanstaaftanstaaf");
            assert_eq!(nested.log_in("tim", "tanstaaftanstaaf"), code, "{:?} split at {split}", told(&members));
        }
    }
}

#[test]
fn an_error_of_the_first_never_lets_in_the_second_ones_user_of_that_name() {
    for knows in [looked_up, when_asked] {
        let staff = Arc::new(Users::new(&[("tim", "of the staff")], knows));
        let customers = Arc::new(Users::new(&[("tim", "of the customers"), ("kurt", "customer")], looked_up));
        let chain = Chain::new().then(staff.clone()).then(customers.clone());
        assert_eq!(chain.log_in("tim", "of the staff"), 235);
        assert_eq!(chain.log_in("tim", "of the customers"), 535);
        assert_eq!(customers.take_asked(), 0);
        assert_eq!(chain.log_in("kurt", "customer"), 235);
        staff.out_of_order.store(true, Ordering::SeqCst);
        for user in ["tim", "kurt", "nobody"] {
            assert_eq!(chain.log_in(user, "of the customers"), 454, "{user}");
        }
        staff.out_of_order.store(false, Ordering::SeqCst);
        customers.out_of_order.store(true, Ordering::SeqCst);
        assert_eq!(chain.log_in("tim", "of the staff"), 235);
        assert_eq!(chain.log_in("kurt", "customer"), 454);
    }
}

/// The unknown are refused by the one that refuses the last member's users, and by nobody else.
#[test]
fn the_unknown_cost_what_a_user_of_the_last_one_does() {
    let first = Arc::new(Users::new(&[("tim", "x")], looked_up));
    let second = Arc::new(Users::new(&[("kurt", "x")], looked_up));
    let third = Arc::new(Users::new(&[("alice", "x")], looked_up));
    let chain = Chain::new().then(first.clone()).then(second.clone()).then(third.clone());
    let asked = || [first.take_asked(), second.take_asked(), third.take_asked()];
    for (user, work) in [("tim", [1, 0, 0]), ("kurt", [0, 1, 0]), ("alice", [0, 0, 1]), ("nobody", [0, 0, 1])] {
        assert_eq!(chain.log_in(user, "wrong"), 535);
        assert_eq!(asked(), work, "{user}");
    }
}

/// A mechanism for which some have nothing: whom nobody knows must not be told from those that have.
#[test]
fn a_mechanism_that_only_the_first_can_answer() {
    struct Tokens;
    impl Authenticator for Tokens {
        fn authenticate(&self, _: &AuthRequest) -> AuthResult {
            AuthResult::cannot_tell()
        }

        fn knows(&self, _: &AuthRequest) -> Knows {
            Knows::No
        }
    }
    let chain = Chain::new().then(Users::new(&USERS, looked_up)).then(Tokens);
    assert_eq!(chain.log_in("tim", "tanstaaftanstaaf"), 235);
    assert_eq!(chain.log_in("tim", "wrong"), 535);
    assert_eq!(chain.log_in("nobody", "wrong"), 535);
    // Nobody has anything to say to ANONYMOUS, whoever it is.
    assert_eq!(auth(&chain, "XOAUTH2 dXNlcj10aW0BYXV0aD1CZWFyZXIgeAEB"), 454);
}

#[test]
fn whose_answer_it_is_stays_as_it_was() {
    let reply: sansmtp::Reply = "454 4.7.0 The directory is down".parse().unwrap();
    let result = AuthResult::cannot_tell().with_message(reply).unwrap().with_auth_data(42_u64);
    let asked = Asked::default();
    let chain = Chain::new().then(Scripted { name: 0, knows: Knows::Yes, result: Some(result), asked });
    let seen = std::sync::Mutex::new(None);
    struct Seen<'s>(Chain, &'s std::sync::Mutex<Option<AuthResult>>);
    impl Authenticator for Seen<'_> {
        fn authenticate(&self, request: &AuthRequest) -> AuthResult {
            let result = self.0.authenticate(request);
            *self.1.lock().unwrap() = Some(result.clone());
            result
        }

        fn knows(&self, request: &AuthRequest) -> Knows {
            self.0.knows(request)
        }
    }
    assert_eq!(Seen(chain, &seen).log_in("tim", "x"), 454);
    let result = seen.into_inner().unwrap().unwrap();
    assert_eq!(result.auth_data::<u64>(), Some(&42));
    assert_eq!(result.message().map(ToString::to_string).as_deref(), Some("454 4.7.0 The directory is down"));
}

#[test]
fn what_some_answer_is_answered_for_some() {
    struct Of(Answers);
    impl Authenticator for Of {
        fn authenticate(&self, _: &AuthRequest) -> AuthResult {
            AuthResult::cannot_tell()
        }

        fn knows(&self, _: &AuthRequest) -> Knows {
            Knows::No
        }

        fn answers(&self, _: &str) -> Answers {
            self.0
        }
    }
    use Answers::{ForAll, ForNone, ForSome};
    for (members, expected) in [
        (&[][..], ForNone),
        (&[ForAll], ForAll),
        (&[ForNone, ForNone], ForNone),
        (&[ForAll, ForAll, ForAll], ForAll),
        (&[ForAll, ForNone, ForAll], ForSome),
        (&[ForAll, ForSome], ForSome),
        (&[ForNone, ForSome, ForNone], ForSome),
    ] {
        assert_eq!(members.iter().map(|answers| Of(*answers)).collect::<Chain>().answers("X"), expected, "{members:?}");
    }
}

/// As the login is the first one's, so are the addresses.
#[test]
fn addresses_are_those_of_the_first_that_knows_the_login() {
    struct Of(Addresses);
    impl Authenticator for Of {
        fn authenticate(&self, _: &AuthRequest) -> AuthResult {
            AuthResult::cannot_tell()
        }

        fn knows(&self, _: &AuthRequest) -> Knows {
            Knows::No
        }

        fn addresses(&self, login: &str) -> Addresses {
            assert_eq!(login, "tim");
            self.0.clone()
        }
    }
    use Addresses::{CannotTell, Known, NeverGiven, UnknownLogin};
    let known = Known(vec!["tim@example.org".to_owned()]);
    for (members, expected) in [
        (vec![], UnknownLogin),
        (vec![UnknownLogin, known.clone(), CannotTell], known.clone()),
        (vec![UnknownLogin, NeverGiven, known.clone()], NeverGiven),
        (vec![Known(vec![]), known.clone()], Known(vec![])),
        (vec![CannotTell, known], CannotTell),
        (vec![UnknownLogin, UnknownLogin], UnknownLogin),
    ] {
        let chain: Chain = members.iter().cloned().map(Of).collect();
        assert_eq!(chain.addresses("tim"), expected, "{members:?}");
    }
    assert_eq!(Chain::new().then(Of(UnknownLogin)).max_waiting(0).addresses("tim"), CannotTell);
}

/// Two databases, of which each has some of the users.
struct Two {
    first: Arc<Users>,
    door: Arc<Chain>,
}

impl Backend for Two {
    fn start() -> Option<Self> {
        let first = Arc::new(Users::new(&USERS[..2], looked_up));
        let second = Arc::new(Users::new(&USERS[2..], when_asked));
        let door = Arc::new(Chain::new().then(first.clone()).then(second));
        Some(Self { first, door })
    }

    fn door(&self) -> Arc<dyn Door> {
        self.door.clone()
    }

    fn stop(&mut self) -> bool {
        self.first.out_of_order.store(true, Ordering::SeqCst);
        true
    }

    fn start_again(&mut self) {
        self.first.out_of_order.store(false, Ordering::SeqCst);
    }
}

battery!(Two);
