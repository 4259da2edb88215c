//! The transport against servers that others have written: nghttpd, nginx and hyper.
//!
//! nghttpd and nginx are processes of their own (Debian's packages `nghttp2-server` and `nginx-light`, which `scripts/test` installs), on free ports, in a
//! directory of their own, and are gone when the test has ended, however it ended. What each of them has processed is compared with what
//! was told of the requests.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's support fails the test by panicking"
)]

mod hyper_server;
mod nghttpd;
mod nginx;
mod process;
mod traffic;
