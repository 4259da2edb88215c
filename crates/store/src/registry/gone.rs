//! How devices are set aside and put back: in which order, and how many at once.

/// The reason of devices that were removed because they had not been registered for long.
pub(crate) const INACTIVE: &str = "inactive";
/// At most so many of them are removed in one transaction, …
pub(crate) const INACTIVE_STEP: usize = 256;
/// … and so many devices looked at.
pub(crate) const INACTIVE_WALK: u32 = 5_000;

/// At most so many devices are put back in one transaction.
pub(crate) const RESTORE_STEP: u32 = 256;

/// A place in the order in which devices are put back: newest death first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) gone_at: i64,
    pub(crate) seq: i64,
}

impl Place {
    /// Before everything.
    pub(crate) const START: Self = Self {
        gone_at: i64::MAX,
        seq: i64::MAX,
    };
}
