//! What filters and selectors mean, for every database.

use bugle_model::{DeviceFilter, DeviceSelector, Listing, Paging, Platform, Provider, Route};

/// At most so many devices are removed in one transaction.
pub(crate) const REMOVE_STEP: usize = 256;

/// The selector in filters that each select few enough devices to be looked up in one transaction.
pub(crate) fn steps(which: &DeviceSelector) -> Vec<DeviceFilter> {
    let ids = which.ids.chunks(REMOVE_STEP).map(|ids| DeviceFilter {
        ids: ids.to_vec(),
        ..DeviceFilter::default()
    });
    let tokens = which.tokens.chunks(REMOVE_STEP).map(|tokens| DeviceFilter {
        tokens: tokens.to_vec(),
        ..DeviceFilter::default()
    });
    // The empty text is no user: it must not remove everybody who has none.
    let users: Vec<_> = which.users.iter().filter(|user| !user.is_empty()).cloned().collect();
    let users = users.chunks(REMOVE_STEP).map(|users| DeviceFilter {
        users: users.to_vec(),
        ..DeviceFilter::default()
    });
    ids.chain(tokens).chain(users).collect()
}

/// What a list of devices is walked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Ids,
    Tokens,
    /// One user, whose devices the index has in order.
    User,
    Users,
    /// The members of the filter's channels.
    Members,
    /// All of the app's devices in the order of their ids.
    Order,
}

impl By {
    /// The narrowest field of the filter, if it names devices at all.
    pub(crate) fn names(filter: &DeviceFilter) -> Option<Self> {
        match filter {
            f if !f.ids.is_empty() => Some(Self::Ids),
            f if !f.tokens.is_empty() => Some(Self::Tokens),
            // The index on users leaves out devices of nobody.
            f if f.users.is_empty() || f.users.iter().any(String::is_empty) => None,
            f if f.users.len() == 1 => Some(Self::User),
            _ => Some(Self::Users),
        }
    }

    /// Does the walk meet devices in the order of their ids?
    pub(crate) fn is_in_order(self) -> bool {
        matches!(self, Self::User | Self::Order)
    }
}

/// The list of an app that has no rows.
pub(crate) fn nothing<T>(paging: &Paging) -> Listing<T> {
    Listing {
        items: Vec::new(),
        has_more: false,
        total: paging.count_total.then_some(0),
    }
}

/// The routes of registered devices that the filter lets through.
pub(crate) fn routes(filter: &DeviceFilter) -> impl Iterator<Item = Route> {
    let providers = filter.providers.clone();
    let platforms = filter.platforms.clone();
    let provider_fits = move |p: &Provider| providers.is_empty() || providers.contains(p);
    let platform_fits = move |p: &Platform| platforms.is_empty() || platforms.contains(p);
    let platforms: Vec<_> = Platform::ALL.into_iter().filter(platform_fits).collect();
    let providers = Provider::ALL.into_iter().filter(provider_fits);
    providers.flat_map(move |provider| platforms.clone().into_iter().map(move |p| Route::of(provider, p)))
}

/// The least text that is greater than every text with this prefix. `None` = there is none.
pub(crate) fn successor(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // Skips the gap of the surrogates. UTF-8 keeps the order of code points.
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_prefix_is_a_range(
            prefix in prop_oneof!["[ab\u{d7ff}\u{10ffff}]{1,3}", ".{1,3}"],
            text in prop_oneof!["[abc\u{d7ff}\u{e000}\u{10ffff}]{0,5}", ".{0,5}"],
        ) {
            for text in [text.clone(), format!("{prefix}{text}")] {
                let in_range = text >= prefix && successor(&prefix).is_none_or(|end| text < end);
                prop_assert_eq!(in_range, text.starts_with(&prefix));
            }
        }
    }
}
