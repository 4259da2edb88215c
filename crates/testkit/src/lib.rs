//! For tests only: a clock that is moved by hand, fresh directories, a proxy that cuts connections.

mod clock;

pub use clock::TestClock;
