//! `bugle demo`

mod broadcast;
mod one;
mod two;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use futures_util::{TryStreamExt, stream};
use serde_json::{Value, json};

use self::broadcast::Costs;
use crate::client::Client;
use crate::commands::progress::of_count;
use crate::commands::say;

/// The channel that everybody is subscribed to; the one of the README's push.
const CHANNEL: &str = "test";
/// Commands in one request.
const BATCH: usize = 250;
/// Requests under way at once while registering.
const AT_ONCE: usize = 8;
/// The demonstration's API key: its server listens on this machine only and forgets everything.
const KEY: &str = "demo";
/// From so many devices on server and simulator are processes of their own, so that the memory and the time of each can be told.
const APART: u32 = 20_000;

/// Show bugle at work, without an account at any provider.
///
/// Starts a simulator of FCM and a server, registers devices through the API, subscribes them to the channel `test`, sends them a push, and shows what
/// arrived and the push's account. Then it stays up for your own requests, until Ctrl-C.
///
/// With --devices 20000 or more both are processes of their own, and the table at the end has the speed, the memory and the CPU time of the server.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Demo {
    /// How many devices to register
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    devices: u32,
    /// Where the API listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Where the server keeps its data; by default a new directory that is removed at the end
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// End after the push instead of staying up
    #[arg(long)]
    once: bool,
}

impl Demo {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let scratch = match &self.data {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("bugle-demo-")
                    .tempdir()
                    .context("cannot make a directory for the demonstration")?,
            ),
        };
        let dir = match (&self.data, &scratch) {
            (Some(dir), _) => dir.clone(),
            (None, Some(dir)) => dir.path().to_owned(),
            (None, None) => anyhow::bail!("no directory"),
        };
        if self.devices < APART {
            one::run(&self, &dir).await
        } else {
            two::run(&self, &dir).await
        }
    }

    /// Everything that is shown, between start and end.
    async fn show(&self, server: &str, simulator: SocketAddr, costs: &dyn Costs) -> anyhow::Result<()> {
        say(&format!(
            "simulator of FCM at {simulator}, its page at http://{simulator}/sim\nbugle at {server}\n"
        ))?;
        let client = Client::new(server, KEY);
        let simulator = Client::new(format!("http://{simulator}"), "");
        let began = Instant::now();
        register(&client, self.devices).await?;
        let took = began.elapsed();
        say(&format!(
            "registered {} devices and subscribed them to channel {CHANNEL:?} in {took:.1?}: {:.0} a second",
            self.devices,
            f64::from(self.devices) / took.as_secs_f64()
        ))?;
        broadcast::run(&client, &simulator, self.devices, costs).await
    }

    fn closing_words(&self, server: &str, simulator: SocketAddr) -> anyhow::Result<()> {
        if self.once {
            return Ok(());
        }
        say(&format!(
            r#"
bugle stays up for your own requests until Ctrl-C. For example:

curl -X POST {server}/api -H 'Authorization: apikey {KEY}' -d '{{"method": "send_push_notification", "params": {{"recipient": {{"channels": ["{CHANNEL}"]}}, "notification": {{"fcm": {{"notification": {{"title": "Hello", "body": "How are you?"}}}}}}}}}}'

curl -X POST {server}/api/device_list -H 'X-API-Key: {KEY}' -d '{{"limit": 3}}'

curl http://{simulator}/sim/stats"#
        ))?;
        Ok(())
    }
}

/// Registers devices on three platforms, each subscribed, many commands in one request and several requests at once.
async fn register(client: &Client, devices: u32) -> anyhow::Result<()> {
    let bar = of_count(u64::from(devices));
    let firsts = (0..devices).step_by(BATCH);
    let step = u32::try_from(BATCH)?;
    stream::iter(firsts.map(Ok::<u32, anyhow::Error>))
        .try_for_each_concurrent(AT_ONCE, |first| {
            let bar = &bar;
            async move {
                let last = first.saturating_add(step).min(devices);
                let commands: Vec<Value> = (first..last).map(device).collect();
                let count = commands.len() as u64;
                client.batch(commands).await?;
                bar.inc(count);
                Ok(())
            }
        })
        .await?;
    bar.finish_and_clear();
    Ok(())
}

fn device(number: u32) -> Value {
    let platform = ["android", "ios", "web"][number as usize % 3];
    json!({"device_register": {
        "platform": platform,
        "token": format!("demo-{number:08}-of-a-length-that-real-tokens-have-{}", "x".repeat(100)),
        "user": format!("user-{number}"),
        "channels": [CHANNEL],
    }})
}

/// How often the account is looked at while a broadcast runs.
const LOOK: Duration = Duration::from_millis(50);
