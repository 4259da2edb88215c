//! `bugle push`: sending and watching from the command line, through the API of a running server.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::client::{ApiError, Client};
use crate::commands::connect::Connect;
use crate::commands::{account, progress, say};

/// The pauses between two looks at a push: short at first, because most pushes are.
const LOOKS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
/// The API's code for what is not there.
const NOT_FOUND: u32 = 104;

/// Send a push, or see how far one is.
#[derive(Debug, Args)]
pub(crate) struct Push {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Send(Box<Send>),
    Status(Status),
    Watch(Watch),
}

impl Push {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Send(send) => send.run().await,
            Command::Status(status) => status.run().await,
            Command::Watch(watch) => watch.run().await,
        }
    }
}

/// Send a push.
///
/// Prints its uid. One kind of recipient, given once or several times:
///
///   bugle push send --channel news --title Hello --body 'How are you?'
///   bugle push send --device phone-1 --device phone-2 --data order=1001
///   bugle push send --json push.json --watch
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Send {
    /// All devices that are subscribed to this channel
    #[arg(long, value_name = "NAME", conflicts_with_all = ["device", "token", "topic"])]
    channel: Vec<String>,
    /// The device with this id
    #[arg(long, value_name = "ID", conflicts_with_all = ["token", "topic"])]
    device: Vec<String>,
    /// This FCM token, registered or not
    #[arg(long, value_name = "TOKEN", conflicts_with = "topic")]
    token: Vec<String>,
    /// This topic of FCM's own
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// What the notification says first
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// What it says then
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// Data for the app
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    data: Vec<(String, String)>,
    /// The whole request instead, as send_push_notification takes it; - reads it from standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["channel", "device", "token", "topic", "title", "body", "data"])]
    json: Option<PathBuf>,
    /// The push's uid, so that asking again sends nothing again; by default the server makes one
    #[arg(long, value_name = "UID")]
    uid: Option<String>,
    /// How soon, among other pushes: urgent or bulk; by default few devices or tokens and topics are urgent, the rest is bulk
    #[arg(long, value_name = "LANE", value_parser = ["urgent", "bulk"])]
    priority: Option<String>,
    /// Stay until it has ended, with a progress bar, and print its account
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    server: Connect,
}

/// Print a push's account.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The push
    uid: String,
    /// Print the API's answer instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Connect,
}

/// Follow a push until it has ended, then print its account.
///
/// The exit code is 1 if the push was rejected, expired or cancelled. Leaving with Ctrl-C does nothing to the push.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The push
    uid: String,
    #[command(flatten)]
    server: Connect,
}

impl Send {
    async fn run(self) -> anyhow::Result<()> {
        let request = self.request()?;
        let client = self.server.client()?;
        let sent = client.call("send_push_notification", &request).await?;
        let uid = sent["uid"].as_str().context("the server answered no uid")?;
        say(uid)?;
        if self.watch {
            watch(&client, uid).await?;
        }
        Ok(())
    }

    fn request(&self) -> anyhow::Result<Value> {
        let mut request = match &self.json {
            Some(file) => read(file)?,
            None => self.composed()?,
        };
        if let Some(uid) = &self.uid {
            request.insert("uid".to_owned(), uid.as_str().into());
        }
        if let Some(priority) = &self.priority {
            request.insert("priority".to_owned(), priority.as_str().into());
        }
        Ok(request.into())
    }

    fn composed(&self) -> anyhow::Result<Map<String, Value>> {
        let lists = [
            ("channels", &self.channel),
            ("device_ids", &self.device),
            ("fcm_tokens", &self.token),
        ];
        let mut recipient = Map::new();
        for (field, list) in lists {
            if !list.is_empty() {
                recipient.insert(field.to_owned(), json!(list));
            }
        }
        if let Some(topic) = &self.topic {
            recipient.insert("fcm_topic".to_owned(), topic.as_str().into());
        }
        if recipient.is_empty() {
            bail!("to whom? Give --channel, --device, --token or --topic, or a whole request with --json");
        }
        let mut words = Map::new();
        for (field, text) in [("title", &self.title), ("body", &self.body)] {
            if let Some(text) = text {
                words.insert(field.to_owned(), text.as_str().into());
            }
        }
        let mut fcm = Map::new();
        if !words.is_empty() {
            fcm.insert("notification".to_owned(), words.into());
        }
        if !self.data.is_empty() {
            let data: Map<String, Value> = self
                .data
                .iter()
                .map(|(key, value)| (key.clone(), value.as_str().into()))
                .collect();
            fcm.insert("data".to_owned(), data.into());
        }
        if fcm.is_empty() {
            bail!("what? Give --title, --body or --data, or a whole request with --json");
        }
        let whole = json!({"recipient": recipient, "notification": {"fcm": fcm}});
        match whole {
            Value::Object(request) => Ok(request),
            _ => bail!("the request is no object"),
        }
    }
}

impl Status {
    async fn run(self) -> anyhow::Result<()> {
        let status = status(&self.server.client()?, &self.uid).await?;
        if self.json {
            return say(&serde_json::to_string_pretty(&status)?);
        }
        say(account::table(&status).trim_end())
    }
}

impl Watch {
    async fn run(self) -> anyhow::Result<()> {
        watch(&self.server.client()?, &self.uid).await
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn read(file: &PathBuf) -> anyhow::Result<Map<String, Value>> {
    let words = || format!("--json: cannot read {}", file.display());
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).with_context(words)?;
    } else {
        text = std::fs::read_to_string(file).with_context(words)?;
    }
    let request: Value =
        serde_json::from_str(&text).with_context(|| format!("--json: {} is no JSON", file.display()))?;
    let fields = match request {
        Value::Object(mut fields)
            if fields
                .get("method")
                .is_some_and(|method| method == "send_push_notification") =>
        {
            fields.remove("params")
        }
        request => Some(request),
    };
    match fields {
        Some(Value::Object(fields)) => Ok(fields),
        _ => bail!(
            "--json: expected an object with recipient and notification in {}",
            file.display()
        ),
    }
}

async fn status(client: &Client, uid: &str) -> anyhow::Result<Value> {
    let asked = client.call("push_status", &json!({"uid": uid})).await;
    asked.map_err(|error| match error.downcast_ref::<ApiError>() {
        Some(ApiError { code: NOT_FOUND, .. }) => {
            anyhow::anyhow!(
                "{} knows no push with the uid {uid:?}; accounts are kept for history.keep after the end",
                client.base()
            )
        }
        _ => error,
    })
}

/// Looks until the push has ended, and prints its account.
async fn watch(client: &Client, uid: &str) -> anyhow::Result<()> {
    let bar = progress::of_count(0);
    let [mut pause, longest] = LOOKS;
    let ended = loop {
        let status = status(client, uid).await?;
        let count = |key: &str| status[key].as_u64().unwrap_or_default();
        bar.set_length(count("targeted"));
        bar.set_position(count("targeted").saturating_sub(count("waiting")));
        let state = status["state"].as_str().unwrap_or_default();
        bar.set_message(format!(
            "{state}: {} sent, {} failed, {} invalid, {} skipped",
            count("sent"),
            count("failed"),
            count("invalid"),
            count("skipped")
        ));
        if status.get("ended_at").is_some() {
            break status;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    };
    bar.finish_and_clear();
    say(account::table(&ended).trim_end())?;
    match ended["state"].as_str() {
        Some("rejected") => {
            bail!("the push was rejected: the provider refused its payload for the first devices; see the server's log")
        }
        Some(state @ ("expired" | "cancelled")) => bail!("the push ended {state}"),
        _ => Ok(()),
    }
}
