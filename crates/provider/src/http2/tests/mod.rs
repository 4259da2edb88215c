mod breaches;
mod flow;
mod fuzz;
mod heads;
mod hostile;
mod interop;
pub(super) mod peer;
mod rules;
