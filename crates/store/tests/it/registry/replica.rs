//! Where lists are read when there is a replica.

use std::sync::Arc;

use bugle_model::{DeviceFilter, SubscriptionFilter};
use bugle_store::{Config, DatabaseUrl, Registry, postgres};
use bugle_testkit::TestClock;
use bugle_testkit::postgres::{Database, database};

use super::{app, channels, ids, named, page, register};
use crate::fixture::Deaf;

async fn open(url: &Database, replica: Option<&Database>) -> Arc<postgres::Store> {
    let config = Config {
        url: DatabaseUrl::new(url.url()),
        replica_url: replica.map(|replica| DatabaseUrl::new(replica.url())),
        connections: 4,
        ..Config::default()
    };
    postgres::open(&config, Arc::new(TestClock::new()), Arc::new(Deaf))
        .await
        .unwrap()
}

/// A store whose "replica" is another database, so that one can tell who has answered.
#[tokio::test]
async fn lists_are_read_from_the_replica_while_it_answers_and_all_else_from_the_primary() {
    let (primary, replica) = (database(), database());
    let other = open(&replica, None).await;
    let store = open(&primary, Some(&replica)).await;
    let device = |id: &str| bugle_model::Registration {
        channels: Some(channels(&["news"])),
        ..named(id, id)
    };
    for (store, id) in [(&other, "on_replica"), (&store, "on_primary")] {
        register(&**store, device(id), 0).await;
    }
    let subscribed = async |store: &postgres::Store| {
        let list = store
            .subscriptions(&app(), &SubscriptionFilter::default(), &page(None, 10))
            .await;
        let ids = list.unwrap().items.into_iter().map(|s| s.device.id.to_string());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids(&*store).await, ["on_replica"]);
    assert_eq!(subscribed(&store).await, ["on_replica"]);
    // Whoever changes something looks at the primary.
    assert!(!register(&*store, device("on_primary"), 1).await.created);
    let which = |id: &str| bugle_model::DeviceSelector {
        ids: vec![id.to_owned()],
        ..bugle_model::DeviceSelector::default()
    };
    assert_eq!(store.remove(&app(), &which("on_replica")).await.unwrap(), 0);
    drop(other);
    drop(replica);
    assert_eq!(ids(&*store).await, ["on_primary"]);
    assert_eq!(subscribed(&store).await, ["on_primary"]);
    let list = store
        .devices(&app(), &DeviceFilter::default(), &page(None, 10), false)
        .await;
    assert_eq!(list.unwrap().items.len(), 1);
}
