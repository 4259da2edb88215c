//! The demonstration's push: its progress, its account, what it cost.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::bail;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::{CHANNEL, LOOK};
use crate::client::Client;
use crate::commands::account::table;
use crate::commands::progress::of_count;
use crate::commands::say;

/// What the processes have cost so far.
pub(super) trait Costs: Send + Sync {
    /// The server's processor time; `None` where it cannot be told apart.
    fn server_cpu(&self) -> Option<Duration>;
    /// The highest memory of the server and of the simulator, in MiB; `None` where they cannot be told apart.
    fn peaks_mib(&self) -> Option<(f64, f64)>;
}

/// Sends the push, watches it, and shows what came of it.
pub(super) async fn run(client: &Client, simulator: &Client, devices: u32, costs: &dyn Costs) -> anyhow::Result<()> {
    let cpu = costs.server_cpu();
    let began = Instant::now();
    let push = json!({
        "recipient": {"channels": [CHANNEL]},
        "notification": {"fcm": {"notification": {"title": "Hello", "body": "How are you?"}}},
    });
    let sent = client.call("send_push_notification", &push).await?;
    say(&format!("send_push_notification answered {sent}"))?;
    let status = watch(client, &sent, devices).await?;
    let took = began.elapsed();
    say(&format!(
        "\nthe push's account, {took:.1?} from request to end:\n{}",
        table(&status)
    ))?;
    let mut summary = String::new();
    let targeted = status["targeted"]
        .as_u64()
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or_default();
    writeln!(
        summary,
        "  pushes a second        {:>10.0}",
        f64::from(targeted) / took.as_secs_f64()
    )?;
    if let (Some(before), Some(after)) = (cpu, costs.server_cpu()) {
        let micros = after.saturating_sub(before).as_secs_f64() * 1e6 / f64::from(targeted.max(1));
        writeln!(summary, "  server's CPU per push  {micros:>10.2} µs")?;
    }
    if let Some((server, sim)) = costs.peaks_mib() {
        writeln!(
            summary,
            "  server's peak memory   {server:>10.1} MiB\n  simulator's            {sim:>10.1} MiB"
        )?;
    }
    say(&summary)?;
    let stats = simulator.get("/sim/stats").await?;
    say(&format!(
        "what arrived at the simulator: {} messages for {} tokens, {} twice",
        stats["outcomes"]["accepted"], stats["tokens"], stats["repeats"]
    ))?;
    if let Some(message) = simulator
        .get("/sim/messages")
        .await?
        .as_array()
        .and_then(|all| all.last())
    {
        say(&format!("the last of them: {}", message["message"]))?;
    }
    Ok(())
}

async fn watch(client: &Client, sent: &Value, devices: u32) -> anyhow::Result<Value> {
    let bar = of_count(u64::from(devices));
    let deadline = Instant::now() + Duration::from_secs(3_600);
    loop {
        let status = client.call("push_status", &json!({"uid": sent["uid"]})).await?;
        show(&bar, &status);
        if status.get("ended_at").is_some() {
            bar.finish_and_clear();
            return Ok(status);
        }
        if Instant::now() > deadline {
            bail!("the push has not ended after an hour: {status}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn show(bar: &ProgressBar, status: &Value) {
    let count = |key: &str| status[key].as_u64().unwrap_or_default();
    bar.set_position(count("targeted").saturating_sub(count("waiting")));
    bar.set_message(format!(
        "{} arrived, {} failed, {} invalid",
        count("sent"),
        count("failed"),
        count("invalid")
    ));
}
