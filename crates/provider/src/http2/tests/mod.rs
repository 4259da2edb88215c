mod flow;
mod hostile;
mod interop;
pub(super) mod peer;
mod rules;
