//! A walk over a leg's audience, cut into the ranges that its pages will be.

use bugle_model::{DeviceKey, PushKey, Route};

use super::MAX_STEP;
use crate::ledger::{Range, Walk};

/// Devices of a range at most.
pub(crate) const MAX_RANGE: u32 = 1_000;

/// So many devices one walk reads, of those that it was asked for.
pub(crate) fn most(targets: u32) -> u32 {
    targets.clamp(1, MAX_STEP * MAX_RANGE)
}

impl Walk {
    /// One that has read nothing yet, and ends with the audience.
    pub(crate) fn begin(push: PushKey, route: Route, cursor: i64, bound: i64) -> Self {
        Self {
            push,
            route,
            from: DeviceKey(cursor),
            to: DeviceKey(bound),
            bound: DeviceKey(bound),
            ranges: Vec::new(),
            closed: true,
        }
    }

    /// One more device, which comes after `last`.
    pub(crate) fn append(&mut self, last: DeviceKey, key: DeviceKey) {
        match self.ranges.last_mut() {
            Some(range) if range.count < MAX_RANGE => {
                range.upto = key;
                range.count += 1;
            }
            _ => self.ranges.push(Range {
                after: last,
                upto: key,
                count: 1,
            }),
        }
    }

    /// A whole range, which comes after `last`.
    pub(crate) fn append_range(&mut self, last: DeviceKey, upto: DeviceKey, count: u32) {
        self.ranges.push(Range {
            after: last,
            upto,
            count,
        });
    }

    /// The audience goes on behind this device.
    pub(crate) fn stop(&mut self, last: DeviceKey) {
        (self.to, self.closed) = (last, false);
    }

    /// How many devices were read.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|range| u64::from(range.count)).sum()
    }
}
