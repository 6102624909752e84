//! A cache leaves no password in the memory that it gives back.

mod support;

use std::time::Duration;

use sansmtp::auth::AuthQuestion;
use sansmtp::{AuthRequest, AuthResult};
use sansmtp_authenticators::{Authenticator, Cache, CacheLimits, Knows};
use support::login::{auth, xoauth2};

#[global_allocator]
static ALLOCATOR: test_alloc::TestAlloc = test_alloc::TestAlloc;

/// What is sent, and nowhere in this program in the clear but here.
static PATTERNS: [&[u8]; 3] = [b"tanstaaftanstaaf", b"wrong-password", b"a-token-of-tim"];

struct Right;

impl Authenticator for Right {
    fn authenticate(&self, request: &AuthRequest) -> AuthResult {
        let right = if let AuthQuestion::BearerToken(token) = request.question() {
            token.token().ct_eq(PATTERNS[2])
        } else {
            request.credentials().password().is_some_and(|password| password.ct_eq(PATTERNS[0]))
        };
        if right { AuthResult::accept() } else { AuthResult::refuse() }
    }

    fn knows(&self, _: &AuthRequest) -> Knows {
        Knows::Yes
    }
}

#[test]
fn what_is_given_back_holds_no_password() {
    let limits = CacheLimits { token_for: Duration::from_secs(60), ..CacheLimits::default() };
    // "\0tim\0tanstaaftanstaaf" and "\0tim\0wrong-password".
    let (right, wrong) = ("PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm", "PLAIN AHRpbQB3cm9uZy1wYXNzd29yZA==");
    let token = xoauth2("tim", "a-token-of-tim");
    let found = test_alloc::watch(&PATTERNS, || {
        let cache = Cache::new(Right, limits).unwrap();
        for _ in 0..3 {
            assert_eq!((auth(&cache, right), auth(&cache, wrong), auth(&cache, &token)), (235, 535, 235));
        }
        cache.forget("tim");
        assert_eq!(auth(&cache, right), 235);
        drop(cache);
    });
    assert_eq!(found, [0, 0, 0]);
    // It does look.
    assert_eq!(test_alloc::watch(&PATTERNS, || drop(std::hint::black_box(PATTERNS[1].to_vec()))), [0, 1, 0]);
}
