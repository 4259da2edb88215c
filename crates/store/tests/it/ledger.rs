//! The contract of the ledger.

mod accept;
mod covered;
mod cut_off;
mod end;
mod expand;
mod holds;
mod kept;
mod left_overs;
mod model;
mod plans;
mod postgres_plans;
mod processes;
mod quota;
mod race;
mod reject;
mod report;
mod spy;
mod take;
mod worker;
pub(crate) mod world;
