//! Counts that a fleet of servers keeps in Valkey or Redis: of failed logins ([`attempts`](crate::attempts)), and of what
//! users have sent ([`sending`](crate::sending)). A thread asks the server, in one script for each question.

mod barred;
pub(crate) mod counted;
pub(crate) mod counter_client;
mod script;
