//! What is counted here.

use metrics::Unit;

/// Commands. Labels `method` (`unknown` where there is none of that name) and `code` (of the error; 0 = none).
pub const COMMANDS: &str = "bugle_api_commands_total";
/// Seconds from the first step of a command to its reply. Label `method`.
pub const COMMAND_SECONDS: &str = "bugle_api_command_duration_seconds";
/// Requests that could not be read or were not allowed. Label `status`.
pub const REFUSED: &str = "bugle_api_requests_refused_total";

/// Tells the recorder what the names mean. To be called once, after the recorder is installed.
pub fn describe() {
    metrics::describe_counter!(COMMANDS, Unit::Count, "Commands by method and error code (0 = none)");
    metrics::describe_histogram!(COMMAND_SECONDS, Unit::Seconds, "Time that a command takes");
    metrics::describe_counter!(REFUSED, Unit::Count, "Requests refused before any command ran");
}
