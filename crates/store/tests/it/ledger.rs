//! The contract of the ledger.

mod accept;
mod end;
mod expand;
mod holds;
mod model;
mod plans;
mod race;
mod reject;
mod report;
mod take;
mod world;
