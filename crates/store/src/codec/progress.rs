//! [`Progress`] as a blob: of a page in work, and (with counts only) the account of a push's own page that has been settled.
//!
//! ```text
//! version 1 · position · open: n, differences · counts: n × (route, six numbers)
//!           · left over: n × (position, due and first try as differences, route, attempts, suspect)
//! ```

use bugle_model::{Counts, LeftOver, Progress, Route, Timestamp};

use super::{Decoder, Encoder};
use crate::Result;

const VERSION: u8 = 1;

/// Writes it down.
pub(crate) fn encode(progress: &Progress) -> Vec<u8> {
    let mut e = Encoder::new(VERSION);
    e.int(progress.position);
    e.len(progress.open.len());
    let mut before = 0_i64;
    for &position in &progress.open {
        e.int(position.wrapping_sub(before));
        before = position;
    }
    e.len(progress.counts.len());
    for (route, counts) in &progress.counts {
        e.byte(route.code());
        for value in in_order(counts) {
            e.uint(value);
        }
    }
    e.len(progress.left_over.len());
    let (mut position, mut due, mut first_try) = (0_i64, 0_i64, 0_i64);
    for left in &progress.left_over {
        e.int(left.position.wrapping_sub(position));
        e.byte(left.route.code());
        e.int(left.due.0.wrapping_sub(due));
        e.byte(left.attempts);
        e.int(left.first_try.wrapping_sub(first_try));
        (position, due, first_try) = (left.position, left.due.0, left.first_try);
        e.byte(u8::from(left.suspect));
    }
    e.finish()
}

/// Reads it; `place` is the table and the column, for errors.
pub(crate) fn decode(blob: &[u8], place: &'static str) -> Result<Progress> {
    let mut d = Decoder::new(blob, VERSION, place)?;
    let mut progress = Progress {
        position: d.int()?,
        ..Progress::default()
    };
    let mut position = 0_i64;
    for _ in 0..d.count()? {
        position = position.wrapping_add(d.int()?);
        progress.open.push(position);
    }
    for _ in 0..d.count()? {
        progress.counts.push((route(&mut d)?, counts(&mut d)?));
    }
    let (mut position, mut due, mut first_try) = (0_i64, 0_i64, 0_i64);
    for _ in 0..d.count()? {
        position = position.wrapping_add(d.int()?);
        let route = route(&mut d)?;
        due = due.wrapping_add(d.int()?);
        let attempts = d.byte()?;
        first_try = first_try.wrapping_add(d.int()?);
        progress.left_over.push(LeftOver {
            position,
            route,
            due: Timestamp(due),
            attempts,
            first_try,
            suspect: d.byte()? != 0,
        });
    }
    d.finish()?;
    Ok(progress)
}

/// The order of the six in blobs; never to be changed.
fn in_order(counts: &Counts) -> [u64; 6] {
    [
        counts.sent,
        counts.failed,
        counts.invalid,
        counts.skipped,
        counts.expired,
        counts.cancelled,
    ]
}

fn counts(d: &mut Decoder<'_>) -> Result<Counts> {
    Ok(Counts {
        sent: d.uint()?,
        failed: d.uint()?,
        invalid: d.uint()?,
        skipped: d.uint()?,
        expired: d.uint()?,
        cancelled: d.uint()?,
    })
}

fn route(d: &mut Decoder<'_>) -> Result<Route> {
    let code = d.byte()?;
    Route::from_code(code).ok_or_else(|| d.corrupt(format!("the route {code}")))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::Error;

    pub(crate) fn routes() -> impl Strategy<Value = Route> {
        (0_u8..20).prop_filter_map("no such route", Route::from_code)
    }

    fn some_counts() -> impl Strategy<Value = Counts> {
        any::<[u64; 6]>().prop_map(|[sent, failed, invalid, skipped, expired, cancelled]| Counts {
            sent,
            failed,
            invalid,
            skipped,
            expired,
            cancelled,
        })
    }

    fn some_left_over() -> impl Strategy<Value = LeftOver> {
        (any::<(i64, i64, u8, i64, bool)>(), routes()).prop_map(
            |((position, due, attempts, first_try, suspect), route)| LeftOver {
                position,
                route,
                due: Timestamp(due),
                attempts,
                first_try,
                suspect,
            },
        )
    }

    fn some_progress() -> impl Strategy<Value = Progress> {
        let counts = vec((routes(), some_counts()), 0..4);
        (
            any::<i64>(),
            vec(any::<i64>(), 0..40),
            counts,
            vec(some_left_over(), 0..40),
        )
            .prop_map(|(position, open, counts, left_over)| Progress {
                position,
                open,
                counts,
                left_over,
            })
    }

    proptest! {
        #[test]
        fn any_progress_survives(progress in some_progress()) {
            prop_assert_eq!(decode(&encode(&progress), "pages.progress").unwrap(), progress);
        }

        #[test]
        fn a_truncated_progress_is_corrupt_and_no_panic(progress in some_progress(), cut in any::<prop::sample::Index>()) {
            let blob = encode(&progress);
            let cut = cut.index(blob.len());
            let is_corrupt = matches!(decode(&blob[..cut], "pages.progress"), Err(Error::Corrupt { .. }));
            prop_assert!(is_corrupt);
        }

        #[test]
        fn garbage_is_no_panic(garbage in vec(any::<u8>(), 0..200)) {
            let _ = decode(&garbage, "pages.progress");
            let _ = decode(&[&[VERSION], &garbage[..]].concat(), "pages.progress");
        }
    }

    #[test]
    fn an_unknown_version_is_corrupt() {
        let mut blob = encode(&Progress::default());
        blob[0] = 2;
        let error = decode(&blob, "pages.progress").unwrap_err();
        assert!(
            matches!(&error, Error::Corrupt { place: "pages.progress", detail } if detail.contains("version 2")),
            "{error}"
        );
    }

    /// What stands in databases out there: if this fails, the form has changed and needs a version of its own.
    #[test]
    fn the_stored_form_stays() {
        let progress = Progress {
            position: 300,
            open: vec![7, 299],
            counts: vec![(
                Route::from_code(5).unwrap(),
                Counts {
                    sent: 200,
                    failed: 1,
                    invalid: 2,
                    skipped: 3,
                    expired: 4,
                    cancelled: 5,
                },
            )],
            left_over: vec![LeftOver {
                position: 12,
                route: Route::from_code(6).unwrap(),
                due: Timestamp(1_000),
                attempts: 3,
                first_try: 900,
                suspect: true,
            }],
        };
        let expected: &[u8] = &[
            1, 0xd8, 0x04, 2, 14, 0xc8, 0x04, 1, 5, 0xc8, 0x01, 1, 2, 3, 4, 5, 1, 24, 6, 0xd0, 0x0f, 3, 0x88, 0x0e, 1,
        ];
        assert_eq!(encode(&progress), expected);
    }
}
