//! The contract of the ledger.

mod accept;
mod covered;
mod end;
mod expand;
mod holds;
mod model;
mod plans;
mod postgres_plans;
mod processes;
mod race;
mod reject;
mod report;
mod spy;
mod take;
pub(crate) mod world;
