//! `bugle demo`

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bugle_sim::Sim;
use clap::Args;
use serde_json::{Value, json};

use crate::client::Client;
use crate::config::Settings;
use crate::lifecycle::Lifecycle;
use crate::{telemetry, wiring};

/// The channel that everybody is subscribed to; the one of the README's push.
const CHANNEL: &str = "test";
/// Commands in one request.
const BATCH: usize = 100;
/// The demonstration's API key: its server listens on this machine only and forgets everything.
const KEY: &str = "demo";

/// Show bugle at work, without an account at any provider.
///
/// Starts a simulator of FCM and a server in one process, registers devices through the API, subscribes them to the channel `test`, sends them a push, and shows what
/// arrived and the push's account. Then it stays up for your own requests, until Ctrl-C.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Demo {
    /// How many devices to register
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
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
        let dir = self
            .data
            .clone()
            .or_else(|| scratch.as_ref().map(|dir| dir.path().to_owned()))
            .context("no directory")?;
        let sim = start_simulator(&dir).await?;
        let settings = self.settings(&dir, &sim)?;
        telemetry::log(&settings.log)?;
        let life = Lifecycle::default();
        life.listen()?;
        let server = wiring::start(&settings, &life, telemetry::metrics()?, None).await?;
        let url = format!("http://{}", server.addr);
        say(&format!("simulator of FCM at {}\nbugle at {url}\n", sim.endpoint()))?;
        let client = Client::new(&url, KEY);
        tokio::select! {
            shown = self.show(&client, &sim) => shown?,
            () = life.stop.cancelled() => {}
        }
        if !self.once {
            say(&closing_words(&url, &sim))?;
            life.stop.cancelled().await;
        }
        life.stop.cancel();
        server.ended(&life).await?;
        sim.stop().await;
        Ok(())
    }

    fn settings(&self, dir: &Path, sim: &Sim) -> anyhow::Result<Settings> {
        let mut settings = Settings::default();
        settings.http.listen = self.listen;
        settings.api.keys = vec![KEY.to_owned().into()];
        settings.data.dir = dir.join("server");
        sim.endpoint().clone_into(&mut settings.fcm.endpoint);
        settings.fcm.credentials_file = path_text(&dir.join("simulator/service-account.json"))?;
        settings.tls.extra_ca_file = path_text(&dir.join("simulator/ca.pem"))?;
        "warn".clone_into(&mut settings.log.level);
        settings.validate()?;
        Ok(settings)
    }

    async fn show(&self, client: &Client, sim: &Sim) -> anyhow::Result<()> {
        let began = Instant::now();
        register(client, self.devices).await?;
        say(&format!(
            "registered {} devices and subscribed them to channel {CHANNEL:?} in {:.1?}",
            self.devices,
            began.elapsed()
        ))?;

        let began = Instant::now();
        let push = json!({
            "recipient": {"channels": [CHANNEL]},
            "notification": {"fcm": {"notification": {"title": "Hello", "body": "How are you?"}}},
        });
        let sent = client.call("send_push_notification", &push).await?;
        say(&format!("send_push_notification answered {sent}"))?;
        let status = wait_for(client, &sent).await?;
        let took = began.elapsed();
        say(&format!(
            "\nthe push's account ({took:.1?} from request to end):\n{}",
            account(&status)
        ))?;
        let stats = serde_json::to_value(sim.stats())?;
        say(&format!(
            "what arrived at the simulator: {} messages for {} tokens, {} twice",
            stats["outcomes"]["accepted"], stats["tokens"], stats["repeats"]
        ))?;
        if let Some(message) = sim.messages().last() {
            say(&format!("the last of them: {}", serde_json::to_string(message)?))?;
        }
        Ok(())
    }
}

async fn start_simulator(dir: &Path) -> anyhow::Result<Sim> {
    let config = bugle_sim::Config {
        tls: true,
        state_dir: Some(dir.join("simulator")),
        ..bugle_sim::Config::default()
    };
    Sim::start(config).await.context("cannot start the simulator")
}

fn path_text(path: &Path) -> anyhow::Result<String> {
    path.to_str()
        .map(str::to_owned)
        .with_context(|| format!("the path {} is no UTF-8 text", path.display()))
}

/// Registers devices on three platforms and subscribes each, many commands in one request.
async fn register(client: &Client, devices: u32) -> anyhow::Result<()> {
    let numbers: Vec<u32> = (0..devices).collect();
    for chunk in numbers.chunks(BATCH) {
        let device = |number: &u32| {
            let platform = ["android", "ios", "web"][*number as usize % 3];
            json!({"device_register": {"platform": platform, "token": format!("demo-{number:07}"), "user": format!("user-{number}")}})
        };
        let registered = client.batch(chunk.iter().map(device).collect()).await?;
        let subscribe = |reply: &Value| json!({"device_subscription_add": {"device_id": reply["device_register"]["id"], "channels": [CHANNEL]}});
        client.batch(registered.iter().map(subscribe).collect()).await?;
    }
    Ok(())
}

async fn wait_for(client: &Client, sent: &Value) -> anyhow::Result<Value> {
    let deadline = Instant::now() + Duration::from_secs(600);
    loop {
        let status = client.call("push_status", &json!({"uid": sent["uid"]})).await?;
        if status.get("ended_at").is_some() {
            return Ok(status);
        }
        if Instant::now() > deadline {
            bail!("the push has not ended after ten minutes: {status}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The account as a table.
fn account(status: &Value) -> String {
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
    let row = |name: &str, of: &Value| {
        let cells = COUNTS.map(|count| format!("{:>10}", of[count].to_string())).concat();
        format!("  {name:<14}{cells}\n")
    };
    let mut table = format!("  {:<14}{}\n", "", COUNTS.map(|count| format!("{count:>10}")).concat());
    for leg in status["legs"].as_array().into_iter().flatten() {
        let text = |key: &str| leg[key].as_str().unwrap_or_default().to_owned();
        table += &row(&format!("{} {}", text("provider"), text("platform")), leg);
    }
    table + &row(status["state"].as_str().unwrap_or_default(), status)
}

fn closing_words(url: &str, sim: &Sim) -> String {
    format!(
        r#"
bugle stays up for your own requests until Ctrl-C. For example:

curl -X POST {url}/api -H 'Authorization: apikey {KEY}' -d '{{"method": "send_push_notification", "params": {{"recipient": {{"channels": ["{CHANNEL}"]}}, "notification": {{"fcm": {{"notification": {{"title": "Hello", "body": "How are you?"}}}}}}}}}}'

curl -X POST {url}/api/device_list -H 'X-API-Key: {KEY}' -d '{{"limit": 3}}'

curl -k {}/sim/stats"#,
        sim.endpoint()
    )
}

fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
