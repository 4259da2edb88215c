//! A push's account as a table.

use serde_json::Value;

const COUNTS: [&str; 8] = [
    "targeted",
    "sent",
    "failed",
    "invalid",
    "skipped",
    "expired",
    "cancelled",
    "waiting",
];

/// The answer of `push_status`: a line for each leg, and one for all.
pub(crate) fn table(status: &Value) -> String {
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    let row = |name: &str, of: &Value| {
        let cells = COUNTS.map(|count| format!("{:>11}", of[count].to_string())).concat();
        let held = of["held"]
            .as_str()
            .map(|why| format!("  held: {why}"))
            .unwrap_or_default();
        format!("{name:<16}{cells}{held}\n")
    };
    let mut table = format!("{:<16}{}\n", "", COUNTS.map(|count| format!("{count:>11}")).concat());
    for leg in status["legs"].as_array().into_iter().flatten() {
        let name = [text(leg, "provider"), text(leg, "platform")];
        table += &row(name.join(" ").trim(), leg);
    }
    table + &row(&text(status, "state"), status)
}
