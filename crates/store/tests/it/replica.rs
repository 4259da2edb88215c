//! PostgreSQL with a real replica: what is read there, when, and that nothing depends on it.

mod opening;
mod trouble;

use bugle_model::{DeviceFilter, Paging, Recipient, SubscriptionFilter, Taken};
use bugle_store::Store;
use bugle_testkit::postgres::Server;

use crate::backend::Place;
use crate::ledger::world::{ANDROID, Fate, HOUR, World, app, channels, ids, sent, settle, token_texts, total};

/// A store, its server, and one that follows it.
struct Pair {
    world: World,
    replica: Server,
    primary: Server,
}

impl Pair {
    async fn new() -> Self {
        Self::by_way_of(Server::address).await
    }

    /// The replica has an address that the store knows.
    async fn by_way_of(address: impl FnOnce(&Server) -> std::net::SocketAddr) -> Self {
        let primary = Server::new();
        let database = primary.database();
        let replica = primary.replica();
        let url = database.url_through(address(&replica));
        let pair = Self {
            world: World::with_replica(database, &url).await,
            replica,
            primary,
        };
        pair.catch_up();
        pair
    }

    fn catch_up(&self) {
        self.primary.wait_for_replica(&self.replica);
    }

    /// The replica knows all that was committed, and learns nothing more.
    fn stand_still(&self) {
        self.catch_up();
        self.replica.pause_replay();
    }

    fn go_on(&self) {
        self.replica.resume_replay();
        self.catch_up();
    }

    async fn accept(&self, uid: &str) {
        self.world.accept(uid, channels(&["news"])).await;
    }

    /// Whom the pages that are due mean, by token.
    async fn taken(&self) -> (Vec<Taken>, Vec<String>) {
        self.world.expand_all().await;
        let taken = self.world.take_due().await;
        let mut tokens: Vec<String> = taken.iter().flat_map(token_texts).map(str::to_owned).collect();
        tokens.sort();
        (taken, tokens)
    }

    async fn settle(&self, taken: &[Taken], fate: Fate) {
        for page in taken {
            self.world.report(settle(page, |_| fate)).await;
        }
    }

    /// Everybody who is listed, once as devices and once as subscribers: they must be the same.
    async fn listed(&self) -> Vec<String> {
        listed(self.world.store()).await
    }
}

async fn listed(store: &dyn Store) -> Vec<String> {
    let devices = store
        .devices(&app(), &DeviceFilter::default(), &everything(), false)
        .await
        .unwrap();
    let mut devices: Vec<_> = devices.items.iter().map(|d| d.device.id.to_string()).collect();
    devices.sort();
    assert_eq!(devices, subscribers(store).await);
    devices
}

/// In one call, which one server answers.
async fn subscribers(store: &dyn Store) -> Vec<String> {
    let subscriptions = store
        .subscriptions(&app(), &SubscriptionFilter::default(), &everything())
        .await
        .unwrap();
    let mut subscribers: Vec<_> = subscriptions.items.iter().map(|s| s.device.id.to_string()).collect();
    subscribers.sort();
    subscribers
}

fn everything() -> Paging {
    Paging {
        after: None,
        limit: 1_000,
        count_total: false,
    }
}

#[tokio::test]
async fn lists_are_read_from_the_replica_and_are_as_old_as_it_is() {
    let pair = Pair::new().await;
    pair.world.device("old", ANDROID, &["news"]).await;
    pair.stand_still();
    pair.world.device("new", ANDROID, &["news"]).await;
    assert_eq!(pair.listed().await, ["old"]);
    // Whoever changes something looks at the primary.
    pair.world.unsubscribe("new", "news").await;
    pair.world.device("new", ANDROID, &["news"]).await;
    pair.world.remove("old").await;
    assert_eq!(pair.listed().await, ["old"]);
    pair.go_on();
    assert_eq!(pair.listed().await, ["new"]);
}

#[tokio::test]
async fn an_audience_is_read_from_the_primary_while_the_replica_does_not_know_the_push() {
    let pair = Pair::new().await;
    pair.world.devices("d", 3, &["news"]).await;
    pair.stand_still();
    // Registered before the push was asked for, and therefore meant.
    pair.world.devices("e", 2, &["news"]).await;
    pair.accept("p").await;
    let (taken, tokens) = pair.taken().await;
    assert_eq!(
        tokens,
        [
            "token-d0001",
            "token-d0002",
            "token-d0003",
            "token-e0001",
            "token-e0002"
        ]
    );
    pair.settle(&taken, Fate::Sent).await;
    let status = pair.world.status("p").await;
    assert_eq!((total(&status).0, sent(&status)), (5, 5));
    assert!(status.ended_at.is_some(), "{status:?}");
}

#[tokio::test]
async fn an_audience_is_read_from_a_replica_that_knows_the_push_and_tokens_may_be_as_old() {
    let pair = Pair::new().await;
    pair.world.devices("d", 3, &["news"]).await;
    pair.accept("p").await;
    pair.stand_still();
    pair.world.device_with("d0001", ANDROID, "newer", &["news"]).await;
    pair.world.remove("d0002").await;
    let (taken, tokens) = pair.taken().await;
    assert_eq!(
        tokens,
        ["token-d0001", "token-d0002", "token-d0003"],
        "this is what the replica knows"
    );
    // What must be certain is read from the primary.
    let again = pair.world.store().reread(taken[0].id, 0).await.unwrap();
    let again = Taken {
        targets: again,
        ..taken[0].clone()
    };
    assert_eq!(token_texts(&again), ["newer", "token-d0003"]);
    // The old token's death is not the new one's.
    pair.settle(&taken, Fate::Dead).await;
    let status = pair.world.status("p").await;
    assert_eq!((total(&status).0, total(&status).1.invalid), (3, 3));
    pair.go_on();
    assert_eq!(pair.listed().await, ["d0001"]);
}

/// A push to named devices must meet their owners of this moment; one that is scheduled means those who are registered when it is due.
#[tokio::test]
async fn named_devices_and_scheduled_audiences_are_read_from_the_primary() {
    let pair = Pair::new().await;
    pair.world.devices("d", 1, &["news"]).await;
    let mut scheduled = pair.world.push("later", channels(&["news"]));
    scheduled.due = scheduled.due.plus(HOUR);
    pair.world.store().accept(scheduled).await.unwrap();
    pair.world.accept("named", ids(&["d0001"])).await;
    pair.stand_still();
    pair.world.device_with("d0001", ANDROID, "newer", &["news"]).await;
    let (taken, tokens) = pair.taken().await;
    assert_eq!(tokens, ["newer"]);
    pair.settle(&taken, Fate::Sent).await;
    pair.world.device("meanwhile", ANDROID, &["news"]).await;
    pair.world.clock.advance(HOUR);
    let (_, tokens) = pair.taken().await;
    assert_eq!(tokens, ["newer", "token-meanwhile"]);
}

/// A dump that was read into another cluster brings places of the log of the cluster that it is from.
#[tokio::test]
async fn places_of_another_log_are_not_trusted() {
    let mut pair = Pair::new().await;
    pair.world.devices("d", 1, &["news"]).await;
    pair.stand_still();
    pair.world.devices("e", 1, &["news"]).await;
    pair.accept("p").await;
    let Place::Postgres(database) = &pair.world.place else {
        unreachable!("it is PostgreSQL")
    };
    drop(database.query("UPDATE pushes SET accepted_at_lsn = '0/1'"));
    pair.world.crash().await;
    assert_eq!(pair.listed().await, ["d0001"]);
    assert_eq!(pair.taken().await.1, ["token-d0001", "token-e0001"]);
}

/// However far behind it is, everything else goes on.
#[tokio::test]
async fn a_replica_that_never_catches_up_holds_up_nothing() {
    let pair = Pair::new().await;
    pair.stand_still();
    for round in 1..=5 {
        pair.world.devices(&format!("r{round}-"), 10, &["news"]).await;
        let uid = format!("p{round}");
        pair.accept(&uid).await;
        let recipient: Recipient = ids(&["r1-0001"]);
        pair.world.accept(&format!("one{round}"), recipient).await;
        pair.world.expand_all().await;
        pair.world.drive(|_| Fate::Sent).await;
        assert_eq!(sent(&pair.world.status(&uid).await), 10 * round);
        assert_eq!(pair.listed().await.len(), 0);
    }
}
