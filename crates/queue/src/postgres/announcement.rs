//! What processes tell each other: references as text.
//!
//! `1INSTANCE TOKEN TOKEN …` with the tokens
//!
//! - `@uAPP`, `@bAPP`: the references that follow are of this app, urgent or bulk;
//! - `PUSH.ROUTE.SEQ.DUE`: a reference ([`crate::wire`]);
//! - `?`: others were lost; look into the ledger.
//!
//! The first character is the version of the form. A payload of another version cannot be read, which is as good as `?`.

use bugle_model::{AppId, Lane, PageRef};

use crate::wire;

/// PostgreSQL takes less than 8 000 bytes.
const MAX_BYTES: usize = 7_900;
const VERSION: char = '1';

/// An announcement that was heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// One's own: to be ignored.
    Own,
    /// References; `look` = others were lost.
    Pages { pages: Vec<PageRef>, look: bool },
    /// It is of another version, or damaged.
    Unreadable,
}

/// Writes references, in as many payloads as are needed. `look` = others were lost.
pub(super) fn write(instance: u64, pages: &[PageRef], look: bool) -> Vec<String> {
    let mut payloads = Vec::new();
    let mut payload = begin(instance);
    if look {
        payload.push_str(" ?");
    }
    let empty = begin(instance).len();
    let mut group: Option<(&AppId, Lane)> = None;
    let mut token = String::new();
    for page in pages {
        token.clear();
        if group != Some((&page.app, page.lane)) {
            write_group(page, &mut token);
        }
        token.push(' ');
        wire::write(page.id, page.due, &mut token);
        if payload.len() + token.len() > MAX_BYTES {
            payloads.push(std::mem::replace(&mut payload, begin(instance)));
            token.clear();
            write_group(page, &mut token);
            token.push(' ');
            wire::write(page.id, page.due, &mut token);
        }
        payload.push_str(&token);
        group = Some((&page.app, page.lane));
    }
    if payload.len() > empty {
        payloads.push(payload);
    }
    payloads
}

fn begin(instance: u64) -> String {
    format!("{VERSION}{instance:x}")
}

fn write_group(page: &PageRef, to: &mut String) {
    to.push_str(match page.lane {
        Lane::Urgent => " @u",
        Lane::Bulk => " @b",
    });
    to.push_str(page.app.as_str());
}

/// Reads a payload that `instance` has heard.
pub(super) fn read(instance: u64, payload: &str) -> Heard {
    try_read(instance, payload).unwrap_or(Heard::Unreadable)
}

fn try_read(instance: u64, payload: &str) -> Option<Heard> {
    let mut tokens = payload.strip_prefix(VERSION)?.split(' ');
    if u64::from_str_radix(tokens.next()?, 16).ok()? == instance {
        return Some(Heard::Own);
    }
    let mut look = false;
    let mut group: Option<(AppId, Lane)> = None;
    let mut pages = Vec::new();
    for token in tokens {
        if token == "?" {
            look = true;
        } else if let Some(named) = token.strip_prefix('@') {
            group = Some(read_group(named)?);
        } else {
            let (id, due) = wire::read(token)?;
            let (app, lane) = group.clone()?;
            pages.push(PageRef { id, app, lane, due });
        }
    }
    Some(Heard::Pages { pages, look })
}

fn read_group(named: &str) -> Option<(AppId, Lane)> {
    let lane = match named.get(..1)? {
        "u" => Lane::Urgent,
        "b" => Lane::Bulk,
        _ => return None,
    };
    Some((AppId::parse(&named[1..]).ok()?, lane))
}

#[cfg(test)]
mod tests {
    use bugle_model::{PageId, PushKey, Route, Timestamp};
    use proptest::prelude::*;

    use super::*;

    fn page() -> impl Strategy<Value = PageRef> {
        let app = prop_oneof![Just("default".to_owned()), "[a-z0-9_-]{1,32}"];
        (app, any::<bool>(), any::<i64>(), 0u8..20, any::<i64>(), any::<i64>()).prop_map(
            |(app, urgent, push, code, seq, due)| PageRef {
                id: PageId {
                    push: PushKey(push),
                    leg: Route::from_code(code),
                    seq,
                },
                app: AppId::parse(&app).unwrap(),
                lane: if urgent { Lane::Urgent } else { Lane::Bulk },
                due: Timestamp(due),
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_announced_is_heard(pages in proptest::collection::vec(page(), 0..600), look: bool) {
            let mut heard = Vec::new();
            let mut looks = 0;
            for payload in write(7, &pages, look) {
                prop_assert!(payload.len() < 8_000);
                prop_assert_eq!(read(7, &payload), Heard::Own);
                let Heard::Pages { pages, look } = read(8, &payload) else { panic!("unreadable: {payload}") };
                heard.extend(pages);
                looks += usize::from(look);
            }
            prop_assert_eq!(heard, pages);
            prop_assert_eq!(looks, usize::from(look));
        }

        #[test]
        fn whatever_is_heard_breaks_nothing(payload in "(1[0-9a-f]{0,17})?( [@?]?[a-z0-9._-]{0,30}){0,4}", other in ".{0,40}") {
            let _ = read(1, &payload);
            let _ = read(1, &other);
        }
    }

    #[test]
    fn another_version_is_unreadable() {
        assert_eq!(read(1, "2ff @uapp 1._.0.1"), Heard::Unreadable);
        assert_eq!(read(1, "1ff 1._.0.1"), Heard::Unreadable);
        assert_eq!(read(1, ""), Heard::Unreadable);
    }
}
