//! The ledger's rules, without a database: what both backends compute alike.
//!
//! A backend reads rows, asks here what follows from them, and writes that. So nothing in these files knows of SQL, connections or locks, and a rule of the ledger stands once.
//! Where a rule has to be a statement's condition instead (what is free, what is due), it stands with the statement, in both backends.
//!
//! | file | answers |
//! |---|---|
//! | `plan` | how an accepted push is laid down: own page, legs, parts |
//! | `push` | may it be sent; what do callers see; as what does it end |
//! | `walk` | the ranges that an audience is cut into |
//! | `page` | how pages are named and ordered; how many targets they stand for |
//! | `target` | what is still to be sent of a page, and who is skipped |
//! | `reports` | which reports share a transaction; do they add up |
//! | `account` | what settling a page changes in its legs' accounts; when a leg is rejected |
//! | `left_over` | which targets to be tried again share a page, and when it is due |
//! | `ending` | what is counted of pages that nobody sends |
//! | `status` | the account of a push that is in work |
//! | `hold` | how a route goes on hold and comes back |
//! | `quota` | how much of a provider's quota a process gets |
//! | `codes` | numbers and words of rows as values |
//!
//! The registry's rules are in `registry`, beside its trait; how blobs are written is in `codec`.

pub(crate) mod account;
pub(crate) mod codes;
pub(crate) mod ending;
pub(crate) mod hold;
pub(crate) mod left_over;
pub(crate) mod page;
pub(crate) mod plan;
pub(crate) mod push;
pub(crate) mod quota;
pub(crate) mod reports;
pub(crate) mod status;
pub(crate) mod target;
pub(crate) mod walk;

/// Pages that one transaction inserts or settles at most.
pub(crate) const MAX_STEP: u32 = 500;

/// Rows that one transaction deletes at most.
pub(crate) const MAX_REMOVALS: u32 = 256;
