//! What a registration's lists make of a device's subscriptions.

use std::collections::BTreeMap;

use bugle_model::{Channel, Origins, Registration};

/// The lists that the registration declares, each with its origin; an absent list leaves that origin's channels as they are.
///
/// Origin user is not rebuilt: there are no lists bound to users yet.
pub(crate) fn lists(r: &Registration) -> Vec<(Origins, &[Channel])> {
    let lists = [
        r.channels.as_deref().map(|list| (Origins::CHANNEL, list)),
        r.topics.as_deref().map(|list| (Origins::TOPIC, list)),
    ];
    lists.into_iter().flatten().collect()
}

/// The channels whose origins change when, for each of these origins, the channels that a device has from it are replaced. No origin left = the
/// subscription goes.
pub(crate) fn changes(
    before: &BTreeMap<String, Origins>,
    lists: &[(Origins, &[Channel])],
) -> BTreeMap<String, Origins> {
    let mut after = before.clone();
    for (origin, list) in lists {
        for origins in after.values_mut() {
            *origins = origins.without(*origin);
        }
        for channel in *list {
            let origins = after.entry(channel.as_str().to_owned()).or_default();
            *origins = origins.with(*origin);
        }
    }
    after.retain(|channel, origins| before.get(channel) != Some(origins));
    after
}
