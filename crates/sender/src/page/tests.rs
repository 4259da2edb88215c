use bugle_model::{AppId, Platform, Provider, PushKey, Token};
use proptest::prelude::*;

use super::*;

fn android() -> Route {
    Route::of(Provider::Fcm, Platform::Android)
}

fn target(position: i64) -> Target {
    Target {
        position,
        route: android(),
        kind: TargetKind::Token(Token::parse(&format!("token-{position}")).unwrap()),
        device: None,
        attempts: 0,
        first_try: 0,
        suspect: false,
    }
}

fn taken(progress: Progress, targets: Vec<Target>) -> Taken {
    Taken {
        id: PageId {
            push: PushKey(1),
            leg: Some(android()),
            seq: 1,
        },
        epoch: 1,
        app: AppId::default_app(),
        lane: Lane::Bulk,
        expires_at: Timestamp(i64::MAX),
        flow: Flow::Running,
        progress,
        targets,
        age: Duration::ZERO,
        body: None,
    }
}

fn page(targets: i64) -> Page {
    Page::new(
        &taken(Progress::default(), (1..=targets).map(target).collect()),
        Instant::now() + Duration::from_secs(60),
    )
}

fn left_over(position: i64) -> LeftOver {
    LeftOver {
        position,
        route: android(),
        due: Timestamp(5),
        attempts: 1,
        first_try: 1,
        suspect: false,
    }
}

fn dead() -> (Outcome, Ending) {
    (Outcome::Device { reason: "UNREGISTERED" }, Ending::Dead("UNREGISTERED"))
}

fn accepted() -> (Outcome, Ending) {
    (Outcome::Accepted, Ending::Sent)
}

#[test]
fn a_report_carries_at_most_256_dead_and_the_page_ends_with_the_last_of_them() {
    let page = page(600);
    for position in 1..=600 {
        page.start(position);
        let (outcome, ending) = dead();
        page.answer(&target(position), &outcome, ending);
    }
    page.finish(Next::Settle);
    let mut carried = Vec::new();
    for round in 0..3 {
        let (report, sent) = page.report();
        assert_eq!(report.next, if round == 2 { Next::Settle } else { Next::Continue });
        let invalid = usize::try_from(report.progress.ended()).unwrap();
        assert_eq!(
            invalid + report.progress.open.len(),
            600,
            "the dead not carried yet are open"
        );
        carried.push(report.dead.len());
        page.reported(&sent, Verdict::Written(Flow::Running));
    }
    assert_eq!(carried, [256, 256, 88]);
}

#[test]
fn a_report_that_was_not_written_is_made_again_in_full() {
    let page = page(10);
    for position in 1..=10 {
        page.start(position);
        let (outcome, ending) = if position % 2 == 0 { dead() } else { accepted() };
        page.answer(&target(position), &outcome, ending);
    }
    page.finish(Next::Settle);
    let (first, _) = page.report();
    page.unreported();
    let (second, sent) = page.report();
    assert_eq!(first.progress, second.progress);
    assert_eq!(first.dead, second.dead);
    assert_eq!((second.answered, sent.answers), (10, 10));
    assert_eq!(page.reported(&sent, Verdict::Written(Flow::Running)), 10);
}

#[test]
fn a_lost_page_frees_all_its_answers() {
    let page = page(3);
    for position in 1..=3 {
        page.start(position);
        let (outcome, ending) = accepted();
        page.answer(&target(position), &outcome, ending);
    }
    let (_, sent) = page.report();
    assert_eq!(page.reported(&sent, Verdict::Lost), 3);
    assert!(page.is_lost());
    assert_eq!(page.take_unwritten(), 0);
}

#[test]
fn what_was_open_and_is_gone_is_dropped_and_what_is_still_there_stays_open() {
    let progress = Progress {
        position: 50,
        open: vec![7, 9, 11],
        counts: Vec::new(),
        left_over: vec![left_over(3)],
    };
    let page = Page::new(
        &taken(progress, vec![target(7), target(11), target(51)]),
        Instant::now(),
    );
    let (report, _) = page.report();
    assert_eq!(report.progress.open, [7, 11]);
    assert_eq!(report.progress.position, 50);
    assert_eq!(report.progress.left_over, [left_over(3)]);
}

#[test]
fn the_rest_of_a_push_that_was_called_off_ends_with_it() {
    let page = page(5);
    for position in 1..=2 {
        page.start(position);
    }
    let (outcome, ending) = accepted();
    page.answer(&target(1), &outcome, ending);
    page.answer(&target(2), &Outcome::Unprocessed, Ending::Again(left_over(2)));
    page.end_rest(
        &[
            target(3),
            Target {
                kind: TargetKind::Skip(bugle_model::Skip::Unknown),
                ..target(4)
            },
            target(5),
        ],
        Flow::Cancelled,
    );
    page.finish(Next::Settle);
    let (report, _) = page.report();
    assert_eq!(
        report.progress.counts,
        [(
            android(),
            Counts {
                sent: 1,
                cancelled: 3,
                skipped: 1,
                ..Counts::default()
            }
        )]
    );
    assert!(report.progress.left_over.is_empty() && report.progress.open.is_empty());
}

proptest! {
    /// Whatever is answered, written or not written in whatever order: in every report each started target is in exactly one place, and the gate gets back what it gave.
    #[test]
    fn every_started_target_is_in_exactly_one_place(moves in proptest::collection::vec((0u8..8, any::<prop::sample::Index>()), 1..400)) {
        let page = page(10_000);
        let (mut next, mut in_flight, mut answers, mut released) = (1i64, Vec::new(), 0usize, 0usize);
        for (kind, which) in moves {
            match kind {
                0..=2 => {
                    page.start(next);
                    in_flight.push(next);
                    next += 1;
                }
                3..=5 if !in_flight.is_empty() => {
                    let position = in_flight.swap_remove(which.index(in_flight.len()));
                    let (outcome, ending) = match kind {
                        3 => accepted(),
                        4 => dead(),
                        _ => (Outcome::Unprocessed, Ending::Again(left_over(position))),
                    };
                    page.answer(&target(position), &outcome, ending);
                    answers += 1;
                }
                6 => {
                    page.report();
                    page.unreported();
                }
                _ => {
                    let (report, sent) = page.report();
                    let places = report.progress.open.len() + report.progress.left_over.len() + usize::try_from(report.progress.ended()).unwrap();
                    prop_assert_eq!(places, usize::try_from(next - 1).unwrap());
                    prop_assert_eq!(report.progress.position, next - 1);
                    prop_assert!(report.dead.len() <= DEAD_PER_REPORT);
                    released += page.reported(&sent, Verdict::Written(Flow::Running));
                    prop_assert!(released <= answers);
                }
            }
        }
        page.finish(Next::Settle);
        loop {
            let (_, sent) = page.report();
            released += page.reported(&sent, Verdict::Written(Flow::Running));
            if sent.last {
                break;
            }
        }
        prop_assert_eq!(released, answers);
        prop_assert_eq!(page.in_flight(), in_flight.len());
    }
}
