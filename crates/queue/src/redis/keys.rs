//! The names of the keys of a lane.

use std::collections::HashMap;

use bugle_model::{AppId, Lane, PageRef, Provider};

/// Which stream of a lane: an index.
pub(super) type Stream = usize;

/// The keys of one lane, all in one slot of a Cluster.
pub(super) struct Keys {
    /// The streams' keys.
    pub(super) streams: Vec<String>,
    /// What the processes agree on to refill.
    pub(super) marks: String,
    /// Who refills just now.
    pub(super) turn: String,
    apps: Vec<AppId>,
    places: HashMap<AppId, usize>,
}

/// The providers, and a stream for the pages that may be of several.
const PER_APP: usize = Provider::ALL.len() + 1;

impl Keys {
    pub(super) fn new(prefix: &str, lane: Lane, apps: &[AppId]) -> Self {
        let mut apps = apps.to_vec();
        apps.sort();
        apps.dedup();
        let lane = format!("{prefix}{{{}}}", lane.as_str());
        let of_app = |app: &AppId| {
            let app = app.clone();
            let lane = lane.clone();
            let providers = Provider::ALL.iter().map(|provider| provider.as_str());
            providers.chain(["any"]).map(move |name| format!("{lane}:{name}:{app}"))
        };
        Self {
            streams: apps.iter().flat_map(of_app).collect(),
            // An app cannot be called so: a stream's key has one part more.
            marks: format!("{lane}:marks"),
            turn: format!("{lane}:turn"),
            places: apps
                .iter()
                .cloned()
                .enumerate()
                .map(|(place, app)| (app, place))
                .collect(),
            apps,
        }
    }

    /// Where a page's reference goes. `None` = the configuration does not know its app.
    pub(super) fn stream_of(&self, page: &PageRef) -> Option<Stream> {
        let app = self.places.get(&page.app)?;
        let provider = page.id.leg.and_then(|leg| leg.provider);
        let place = provider.and_then(|provider| Provider::ALL.iter().position(|p| *p == provider));
        Some(app * PER_APP + place.unwrap_or(PER_APP - 1))
    }

    /// Whose pages are in a stream.
    pub(super) fn app_of(&self, stream: Stream) -> Option<&AppId> {
        self.apps.get(stream / PER_APP)
    }
}

#[cfg(test)]
mod tests {
    use bugle_model::{PageId, Platform, PushKey, Route, Timestamp};

    use super::*;

    #[test]
    fn each_provider_of_each_app_has_a_stream_in_the_lanes_slot() {
        let apps: Vec<AppId> = ["shop", "default", "shop"]
            .map(|name| AppId::parse(name).unwrap())
            .into();
        let keys = Keys::new("bugle:", Lane::Bulk, &apps);
        assert_eq!(keys.streams.len(), 10);
        for (leg, app, key) in [
            (
                Some(Route::of(Provider::Fcm, Platform::Ios)),
                "default",
                "bugle:{bulk}:fcm:default",
            ),
            (Some(Route::raw(Provider::Hms)), "shop", "bugle:{bulk}:hms:shop"),
            (Some(Route::UNKNOWN), "shop", "bugle:{bulk}:any:shop"),
            (None, "default", "bugle:{bulk}:any:default"),
        ] {
            let page = PageRef {
                id: PageId {
                    push: PushKey(1),
                    leg,
                    seq: 1,
                },
                app: AppId::parse(app).unwrap(),
                lane: Lane::Bulk,
                due: Timestamp(0),
            };
            let stream = keys.stream_of(&page).unwrap();
            assert_eq!(keys.streams[stream], key);
            assert_eq!(keys.app_of(stream), Some(&page.app));
        }
    }
}
