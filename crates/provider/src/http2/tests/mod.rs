mod flow;
mod fuzz;
mod hostile;
mod interop;
pub(super) mod peer;
mod rules;
