//! Clients that go on calling whatever happens, and remember what they were promised.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bugle_sim::Sim;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::world::Api;

/// A channel with [`FEW_DEVICES`] devices.
pub(super) const FEW: &str = "few";
pub(super) const FEW_DEVICES: u64 = 3;

/// The clients, at work until they are [stopped](Callers::stop).
#[derive(Default)]
pub(super) struct Callers {
    tasks: Vec<JoinHandle<Calls>>,
    stop: Arc<AtomicBool>,
}

/// What became of the calls.
#[derive(Default)]
pub(super) struct Calls {
    /// Tokens of devices whose registration was answered with success.
    pub(super) devices: Vec<String>,
    /// Pushes that were answered with a uid, and what each goes to: a raw token, or [`FEW`].
    pub(super) pushes: Vec<(String, String)>,
    /// How many calls were answered with an error.
    pub(super) refused: usize,
    /// The longest time that an answer took.
    pub(super) slowest: Duration,
    /// How many clients were refused at last.
    pub(super) refused_at_last: usize,
}

/// What a client asks for.
#[derive(Clone, Copy)]
enum Kind {
    Register,
    ToOne,
    ToFew,
}

impl Kind {
    /// The pause between two calls. A push to a channel is three legs, which take turns with those of the large push: few of them, or they are the load.
    fn pause(self) -> Duration {
        match self {
            Self::Register | Self::ToOne => Duration::from_millis(50),
            Self::ToFew => Duration::from_millis(500),
        }
    }
}

impl Callers {
    /// Starts a client of each kind for each process; a call may take so long, the test fails where one takes longer.
    pub(super) fn start(apis: &[Api], longest: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for (process, api) in apis.iter().enumerate() {
            for (name, kind) in [("device", Kind::Register), ("raw", Kind::ToOne), ("few", Kind::ToFew)] {
                let name = format!("{name}-{process}");
                tasks.push(tokio::spawn(call(api.clone(), name, kind, longest, Arc::clone(&stop))));
            }
        }
        Self { tasks, stop }
    }

    /// Ends them when their last calls are answered.
    pub(super) async fn stop(self) -> Calls {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Calls::default();
        for task in self.tasks {
            let calls = task.await.unwrap();
            all.devices.extend(calls.devices);
            all.pushes.extend(calls.pushes);
            all.refused += calls.refused;
            all.slowest = all.slowest.max(calls.slowest);
            all.refused_at_last += calls.refused_at_last;
        }
        all
    }
}

async fn call(api: Api, name: String, kind: Kind, longest: Duration, stop: Arc<AtomicBool>) -> Calls {
    let mut calls = Calls::default();
    let push =
        |recipient: Value| json!({"recipient": recipient, "notification": {"fcm": {"notification": {"title": "t"}}}});
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let token = format!("{name}-{number:06}");
        let (method, params) = match kind {
            Kind::Register => ("device_register", json!({"platform": "web", "token": token})),
            Kind::ToOne => ("send_push_notification", push(json!({"fcm_tokens": [token]}))),
            Kind::ToFew => ("send_push_notification", push(json!({"channels": [FEW]}))),
        };
        let began = Instant::now();
        let answer = tokio::time::timeout(longest, api.answer(method, &params))
            .await
            .unwrap_or_else(|_| panic!("{method} was not answered within {longest:?}"));
        calls.slowest = calls.slowest.max(began.elapsed());
        if let Some(error) = answer.get("error") {
            assert_eq!(error["code"], 100, "{method}: {answer}");
            calls.refused += 1;
            calls.refused_at_last = 1;
        } else {
            calls.refused_at_last = 0;
            match kind {
                Kind::Register => calls.devices.push(token),
                Kind::ToOne => calls.pushes.push((uid(&answer), token)),
                Kind::ToFew => calls.pushes.push((uid(&answer), FEW.to_owned())),
            }
        }
        tokio::time::sleep(kind.pause()).await;
    }
    calls
}

fn uid(answer: &Value) -> String {
    answer["result"]["uid"].as_str().unwrap().to_owned()
}

impl Calls {
    /// Fails unless everything that was answered with success is there, and has arrived before the deadline.
    pub(super) async fn assert_kept(&self, api: &Api, sim: &Sim, deadline: Instant) {
        let mut found = BTreeSet::new();
        for tokens in self.devices.chunks(500) {
            let listed = api.call("device_list", &json!({"tokens": tokens, "limit": 1000})).await;
            let items = listed["items"].as_array().unwrap();
            found.extend(items.iter().map(|device| device["token"].as_str().unwrap().to_owned()));
        }
        let lost: Vec<_> = self.devices.iter().filter(|token| !found.contains(*token)).collect();
        assert!(lost.is_empty(), "registered and not there: {lost:?}");
        let mut waiting: Vec<&(String, String)> = self.pushes.iter().collect();
        while !waiting.is_empty() {
            waiting = not_ended(api, &waiting).await;
            assert!(
                Instant::now() < deadline,
                "{} pushes have not ended: {waiting:?}",
                waiting.len()
            );
        }
        for (_, token) in self.pushes.iter().filter(|(_, to)| to != FEW) {
            assert!(sim.token(token).is_some(), "{token} was never sent to");
        }
    }
}

/// Those of the pushes that have not ended; fails if one is not known, or has ended otherwise than it should.
async fn not_ended<'a>(api: &Api, pushes: &[&'a (String, String)]) -> Vec<&'a (String, String)> {
    let mut waiting = Vec::new();
    for pushes in pushes.chunks(500) {
        let commands: Vec<Value> = pushes
            .iter()
            .map(|(uid, _)| json!({"push_status": {"uid": uid}}))
            .collect();
        let batch = json!({"commands": commands, "parallel": true});
        let (_, body) = api.raw("/api/batch", batch.to_string()).await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        for (push, reply) in pushes.iter().zip(answer["replies"].as_array().unwrap()) {
            let status = &reply["push_status"];
            let sent = if push.1 == FEW { FEW_DEVICES } else { 1 };
            assert!(reply.get("error").is_none(), "{push:?}: {reply}");
            if status.get("ended_at").is_none() {
                waiting.push(*push);
            } else {
                assert_eq!(
                    (&status["sent"], &status["targeted"]),
                    (&json!(sent), &json!(sent)),
                    "{push:?}: {reply}"
                );
            }
        }
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    waiting
}
