//! What is counted here.

use metrics::Unit;

/// Pushes that were accepted as new. Label `recipient`: `devices`, `channels`, `tokens`, `topic`.
pub const PUSHES_ACCEPTED: &str = "bugle_service_pushes_accepted_total";
/// Requests to send a push that had been accepted before.
pub const PUSHES_REPEATED: &str = "bugle_service_pushes_repeated_total";
/// Registrations. Label `device`: `created`, `updated`.
pub const REGISTRATIONS: &str = "bugle_service_device_registrations_total";
/// Devices that were removed because somebody asked for it.
pub const REMOVALS: &str = "bugle_service_device_removals_total";

/// Tells the recorder what the names mean. To be called once, after the recorder is installed.
pub fn describe() {
    metrics::describe_counter!(
        PUSHES_ACCEPTED,
        Unit::Count,
        "Pushes accepted as new, by kind of recipient"
    );
    metrics::describe_counter!(
        PUSHES_REPEATED,
        Unit::Count,
        "Requests for a push that had been accepted before"
    );
    metrics::describe_counter!(REGISTRATIONS, Unit::Count, "Device registrations");
    metrics::describe_counter!(REMOVALS, Unit::Count, "Devices removed on request");
}
