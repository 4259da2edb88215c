//! `bugle devices restore`

use std::time::Duration;

use anyhow::bail;
use bugle_model::{Clock, Period, SystemClock, Timestamp};
use clap::Args;
use serde_json::json;

use crate::commands::connect::Connect;
use crate::commands::say;

/// It goes in steps on the server, and a million devices are many steps.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// Put devices back that a provider declared dead.
///
/// For the day when it was wrong: a provider's mistake, wrong credentials, another project's tokens. Devices that were removed since then come back with their
/// subscriptions, also those that were removed for devices.max_inactive. Those whose id or token has been registered again meanwhile stay as they are, and those that were removed through the API stay removed.
///
/// They are kept for history.gone, 14 days by default.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Restore {
    /// Since when: a moment like 2026-01-31T12:00:00Z, or a length of time before now like 2h or 3d
    #[arg(long, value_name = "TIME")]
    since: String,
    #[command(flatten)]
    server: Connect,
}

impl Restore {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let since = moment(&self.since, SystemClock.now())?;
        let client = self.server.client()?.with_patience(PATIENCE);
        let answer = client
            .call("device_restore", &json!({"since": since.as_secs()}))
            .await?;
        say(&format!("{} devices came back", answer["restored"]))
    }
}

fn moment(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Ok(period) = text.parse::<Period>() {
        return Ok(now.minus(period.get()));
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(moment) if moment.as_millisecond() <= now.0 => Ok(Timestamp(moment.as_millisecond())),
        Ok(_) => bail!("--since: {text} is in the future"),
        Err(_) => {
            bail!("--since: expected a moment like 2026-01-31T12:00:00Z or a length of time like 2h, got {text:?}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_or_a_length_of_time() {
        let now = Timestamp::from_secs(1_780_000_000);
        assert_eq!(moment("2h", now).unwrap().as_secs(), 1_780_000_000 - 7_200);
        assert_eq!(moment("2026-05-28T20:26:40Z", now).unwrap(), now);
        assert_eq!(
            moment("2026-05-28T20:26:40+02:00", now).unwrap().as_secs(),
            1_780_000_000 - 7_200
        );
        for wrong in [
            "yesterday",
            "2h ago",
            "1780000000",
            "2026-05-28",
            "2026-05-28T20:26:41Z",
        ] {
            assert!(
                moment(wrong, now).unwrap_err().to_string().starts_with("--since: "),
                "{wrong}"
            );
        }
    }
}
