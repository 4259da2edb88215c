//! What must hold after every step, and in the end.

use std::time::Duration;

use bugle_model::{LegStatus, Next, PushState};

use super::tally::Who;
use super::{Model, ROUTES, end};
use crate::ledger::world::{HOUR, app, total};

impl Model {
    /// The promise: every account is what the test has counted, and adds up.
    pub(super) async fn check(&self) {
        for (name, tally) in &self.tallies {
            let status = self.world.status(name).await;
            let (targeted, counts) = total(&status);
            let expected = tally.counts();
            let waiting: u64 = status.legs.iter().map(LegStatus::waiting).sum();
            assert_eq!(targeted, counts.total() + waiting, "{name}");
            assert_eq!(
                (counts.sent, counts.failed, counts.invalid, counts.skipped),
                (expected.sent, expected.failed, expected.invalid, expected.skipped),
                "{name}"
            );
            // The rest the ledger ends by itself.
            assert!(
                counts.cancelled >= expected.cancelled && counts.expired >= expected.expired,
                "{name}"
            );
            assert!(status.ended_at.is_none() || waiting == 0, "{name}: {status:?}");
            if let Some(named) = tally.named {
                assert_eq!(targeted, named, "{name}");
            }
        }
        let wrong = self.world.count(
            "SELECT count(*) FROM legs l WHERE outstanding <>
                (SELECT coalesce(sum(expected), 0) FROM pages p WHERE p.push = l.push AND p.route = l.route)",
        );
        assert_eq!(wrong, 0, "outstanding is what the pages expected");
        assert_eq!(
            self.world
                .count("SELECT count(*) FROM legs WHERE ended_at IS NOT NULL AND outstanding <> 0"),
            0
        );
    }

    /// Everybody stops, then one worker does all there is to do.
    pub(super) async fn finish(&mut self) {
        self.held.clear();
        self.world.crash().await;
        for route in ROUTES {
            self.store()
                .set_hold(&app(), route, None, self.world.now())
                .await
                .unwrap();
        }
        for _ in 0..50 {
            self.world.expand_all().await;
            self.world.clock.advance(Duration::from_mins(1));
            let due = self.world.due().await;
            for taken in self.store().take(&due, HOUR).await.unwrap() {
                self.hold(taken);
                let at = self.held.len() - 1;
                let held = &mut self.held[at];
                let (flow, now) = (held.taken.flow, self.world.now());
                for target in std::mem::take(&mut held.rest) {
                    end(held, &target, flow, 9, now);
                }
                held.report.next = Next::Settle;
                self.send(at).await;
            }
            while self.store().sweep(self.world.now()).await.unwrap().more {}
            self.check().await;
            if self.world.count("SELECT count(*) FROM pushes WHERE ended_at IS NULL") == 0 {
                break;
            }
        }
        for (name, tally) in &self.tallies {
            let status = self.world.status(name).await;
            assert!(status.ended_at.is_some(), "{name} never ends: {status:?}");
            let (targeted, counts) = total(&status);
            assert_eq!(targeted, counts.total(), "{name}");
            match status.state {
                PushState::Done => {
                    assert!(!tally.stopped || counts.cancelled == 0);
                    assert_eq!(counts, tally.counts(), "{name}");
                    for (id, key) in &tally.steady {
                        assert!(
                            tally.ended.contains_key(&Who::Device(*key)),
                            "{name} did not reach {id}"
                        );
                    }
                }
                PushState::Cancelled => assert!(tally.stopped),
                PushState::Expired => {}
                other => panic!("{name} ended as {other:?}"),
            }
        }
        assert_eq!(self.world.count("SELECT count(*) FROM pages"), 0);
        assert_eq!(self.world.count("SELECT count(*) FROM page_targets"), 0);
        assert!(self.store().outstanding().await.unwrap().is_empty());
    }
}
