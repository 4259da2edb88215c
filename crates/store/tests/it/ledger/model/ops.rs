//! What may happen.

use proptest::prelude::*;
use proptest::sample::Index;

#[derive(Debug, Clone)]
pub(super) enum Op {
    Register(Index, Vec<Index>),
    Remove(Index),
    Unsubscribe(Index, Index),
    Accept(Kind, bool),
    Expand(Index, u32),
    Take(Index, bool),
    /// Ends so many targets of a page in hand, leaves so many open, and reports.
    Work(Index, Vec<u8>, u8, u8),
    Abandon(Index),
    Cancel(Index),
    Hold(Index, bool),
    Sweep,
    Advance(u32),
    Crash,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Own(Vec<Index>),
    Tokens(usize),
    Split,
    Walked(Vec<Index>),
}

pub(super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let index = any::<Index>;
    let kind = prop_oneof![
        prop::collection::vec(index(), 1..6).prop_map(Kind::Own),
        prop_oneof![1..4_usize, 101..104_usize].prop_map(Kind::Tokens),
        Just(Kind::Split),
        prop::collection::vec(index(), 1..3).prop_map(Kind::Walked),
    ];
    let op = prop_oneof![
        4 => (index(), prop::collection::vec(index(), 0..3)).prop_map(|(d, c)| Op::Register(d, c)),
        1 => index().prop_map(Op::Remove),
        1 => (index(), index()).prop_map(|(d, c)| Op::Unsubscribe(d, c)),
        4 => (kind, any::<bool>()).prop_map(|(kind, long)| Op::Accept(kind, long)),
        5 => (index(), 1..5_u32).prop_map(|(leg, room)| Op::Expand(leg, room)),
        6 => (index(), any::<bool>()).prop_map(|(page, long)| Op::Take(page, long)),
        12 => (index(), prop::collection::vec(0..10_u8, 0..8), 0..4_u8, 0..6_u8)
            .prop_map(|(page, fates, open, next)| Op::Work(page, fates, open, next)),
        1 => index().prop_map(Op::Abandon),
        1 => index().prop_map(Op::Cancel),
        1 => (index(), any::<bool>()).prop_map(|(route, on)| Op::Hold(route, on)),
        1 => Just(Op::Sweep),
        1 => (1..4_000_u32).prop_map(Op::Advance),
        1 => Just(Op::Crash),
    ];
    prop::collection::vec(op, 1..70)
}
