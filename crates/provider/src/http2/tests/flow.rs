//! Flow control, against a model that counts.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "test data is small"
)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::frame::kind;
use super::super::*;
use super::peer::*;

/// The server's side: what it has allowed and what has come.
struct Model {
    connection: Connection<u32>,
    head: Head,
    requests: Requests,
    sent: BTreeMap<u32, usize>,
    window: i64,
    streams: BTreeMap<u32, i64>,
    initial: i64,
    max_frame: usize,
}

impl Model {
    fn new() -> Self {
        Self {
            connection: connection(&[]),
            head: head(),
            requests: Requests::default(),
            sent: BTreeMap::new(),
            window: 65_535,
            streams: BTreeMap::new(),
            initial: 65_535,
            max_frame: 16_384,
        }
    }

    fn request(&mut self, length: usize) {
        let body: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let (a, b) = body.split_at(length / 2);
        let owner = self.sent.len() as u32;
        let id = self.connection.request(&self.head, b"", &[a, b], owner).unwrap().0;
        self.sent.insert(id, length);
        self.streams.insert(id, self.initial);
        self.take();
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.connection.receive(bytes, &mut Recorder::default()).unwrap();
        self.take();
    }

    /// Reads what was put out, and holds it against the windows.
    fn take(&mut self) {
        for (header, payload) in frames(&std::mem::take(self.connection.output())) {
            assert!(payload.len() <= self.max_frame);
            if header.kind == kind::DATA {
                self.window -= payload.len() as i64;
                *self.streams.get_mut(&header.stream).unwrap() -= payload.len() as i64;
                assert!(payload.is_empty() || self.window >= 0, "the connection's window");
                assert!(
                    payload.is_empty() || self.streams[&header.stream] >= 0,
                    "the stream's window"
                );
            }
            self.requests.note(header, &payload);
        }
    }

    /// Nothing waits that could go.
    fn is_greedy(&self, gone: &BTreeSet<u32>) {
        for id in self.sent.keys().filter(|id| !gone.contains(id)) {
            let ended = self.requests.ended[id];
            assert!(
                ended || self.window == 0 || self.streams[id] <= 0,
                "stream {id} could send"
            );
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Request(usize),
    WidenConnection(u32),
    WidenStream(usize, u32),
    Initial(u32),
    MaxFrame(u32),
    Reset(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![0..400_usize, 0..60_000_usize].prop_map(Step::Request),
        2 => (1..40_000_u32).prop_map(Step::WidenConnection),
        3 => (any::<usize>(), 1..40_000_u32).prop_map(|(which, by)| Step::WidenStream(which, by)),
        2 => prop_oneof![0..500_u32, 0..100_000_u32].prop_map(Step::Initial),
        1 => (16_384..70_000_u32).prop_map(Step::MaxFrame),
        1 => any::<usize>().prop_map(Step::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_window_is_overrun_and_all_bodies_arrive_whole(steps in proptest::collection::vec(step(), 1..60)) {
        let mut model = Model::new();
        let mut gone = BTreeSet::new();
        for step in steps {
            let pick = |which: usize| model.sent.keys().nth(which % model.sent.len().max(1)).copied();
            match step {
                Step::Request(length) => model.request(length),
                Step::WidenConnection(by) => {
                    model.window += i64::from(by);
                    model.receive(&window_update(0, by));
                }
                Step::WidenStream(which, by) => if let Some(id) = pick(which) {
                    *model.streams.get_mut(&id).unwrap() += i64::from(by);
                    model.receive(&window_update(id, by));
                },
                Step::Initial(size) => {
                    let by = i64::from(size) - model.initial;
                    model.initial = i64::from(size);
                    model.streams.values_mut().for_each(|window| *window += by);
                    model.receive(&settings_frame(&[(4, size)]));
                }
                Step::MaxFrame(size) => {
                    model.max_frame = size as usize;
                    model.receive(&settings_frame(&[(5, size)]));
                }
                Step::Reset(which) => if let Some(id) = pick(which) {
                    if model.connection.reset(StreamId(id)).is_some() {
                        gone.insert(id);
                    }
                    model.take();
                },
            }
            model.is_greedy(&gone);
        }
        // Now everything may go.
        let ids: Vec<u32> = model.sent.keys().copied().collect();
        for id in ids {
            *model.streams.get_mut(&id).unwrap() += 1 << 24;
            model.receive(&window_update(id, 1 << 24));
        }
        model.window += 1 << 28;
        model.receive(&window_update(0, 1 << 28));
        for (id, length) in &model.sent {
            if gone.contains(id) {
                continue;
            }
            let body = model.requests.bodies.remove(id).unwrap_or_default();
            prop_assert_eq!(body.len(), *length);
            prop_assert!(body.iter().enumerate().all(|(i, b)| *b == (i % 251) as u8));
            prop_assert!(model.requests.ended[id]);
        }
    }
}

#[test]
fn streams_that_wait_for_the_connection_go_on_in_their_order() {
    let mut model = Model::new();
    model.request(65_535);
    for _ in 0..3 {
        model.request(100);
    }
    for (by, ended) in [(99, 0), (1, 1), (150, 2), (50, 3)] {
        model.window += by;
        model.receive(&window_update(0, by as u32));
        assert_eq!(model.requests.ended.values().filter(|e| **e).count(), 1 + ended);
    }
    assert_eq!(model.requests.ended.values().copied().collect::<Vec<_>>(), [true; 4]);
}

#[test]
fn requests_that_are_reset_while_they_wait_leave_nothing_behind() {
    let mut model = Model::new();
    model.request(65_535);
    for _ in 0..10_000 {
        model.request(10);
        let last = *model.sent.keys().last().unwrap();
        assert!(model.connection.reset(StreamId(last)).is_some());
        model.take();
    }
    assert!(
        model.connection.waiting_streams() < 200,
        "{}",
        model.connection.waiting_streams()
    );
}
