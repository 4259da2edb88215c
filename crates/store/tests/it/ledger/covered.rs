//! Tokens are kept beside the subscriptions too (PostgreSQL: those that fit into an index). They must be those of the devices, whatever happens to these.

use bugle_model::{DeviceId, TargetKind, Timestamp};
use rstest::rstest;

use super::world::{ANDROID, APNS, Fate, World, app, channels, ids, settle, token_texts};
use crate::backend::Backend;

/// Counts the subscriptions whose route or token is not their device's.
fn astray(backend: Backend) -> String {
    let token = match backend {
        Backend::Sqlite => "d.token",
        Backend::Postgres => "covered_token(d.token)",
    };
    format!(
        "SELECT count(*) FROM subscriptions s JOIN devices d ON d.key = s.key
          WHERE s.token IS DISTINCT FROM {token} OR s.route <> d.provider * 4 + d.platform"
    )
}

#[rstest]
#[tokio::test]
async fn a_token_of_any_length_is_sent_to_in_two_channels(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
    #[values(1, 999, 1_000, 1_001, 4_096)] length: usize,
) {
    let world = World::new(backend).await;
    let odd = "o".repeat(length);
    world.device("before", ANDROID, &["news", "sport"]).await;
    world.device_with("odd", ANDROID, &odd, &["news", "sport"]).await;
    world.device("after", ANDROID, &["sport"]).await;
    world.accept("p", channels(&["news", "sport"])).await;
    world.expand_all().await;
    let taken = world.take_due().await;
    let page = taken.iter().find(|page| !page.targets.is_empty()).unwrap();
    assert_eq!(token_texts(page), ["token-before", odd.as_str(), "token-after"]);
}

#[rstest]
#[tokio::test]
async fn tokens_beside_subscriptions_follow_their_devices(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let (world, astray) = (World::new(backend).await, astray(backend));
    let long = "l".repeat(2_000);
    for (id, route, token, names) in [
        ("a", ANDROID, "one", &["news"][..]),
        ("a", ANDROID, "two", &["news", "sport"]),
        ("a", ANDROID, &long, &["sport"]),
        ("a", APNS, "three", &["sport"]),
        ("b", ANDROID, "two", &["news"]),
        // Takes the token of a: a goes.
        ("b", APNS, "three", &["news", "sport"]),
        ("b", ANDROID, "three", &["news", "sport"]),
    ] {
        world.device_with(id, route, token, names).await;
        assert_eq!(world.count(&astray), 0, "{id} with a token of {} bytes", token.len());
    }
    let id = DeviceId::parse("b").unwrap();
    let more = [bugle_model::Channel::parse("more").unwrap()];
    assert!(world.store().subscribe(&app(), &id, &more, world.now()).await.unwrap());
    assert_eq!(world.count(&astray), 0);
    assert_eq!(world.count("SELECT count(*) FROM subscriptions"), 3);
    world.accept("p", ids(&["b"])).await;
    let taken = world.take_one().await;
    world.report(settle(&taken, |_| Fate::Dead)).await;
    assert_eq!(world.count("SELECT count(*) FROM subscriptions"), 0);
    assert_eq!(world.store().restore(&app(), Timestamp(0)).await.unwrap(), 1);
    assert_eq!(
        world.count("SELECT count(*) FROM subscriptions WHERE token = 'three'"),
        3
    );
    assert_eq!(world.count(&astray), 0);
}

#[rstest]
#[tokio::test]
async fn a_page_is_read_with_the_tokens_of_that_moment(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    world.device("a", ANDROID, &["news"]).await;
    world.accept("p", channels(&["news"])).await;
    world.expand_all().await;
    world.device_with("a", ANDROID, "newer", &["news"]).await;
    let taken = world.take_due().await;
    let page = taken.iter().find(|page| !page.targets.is_empty()).unwrap();
    assert_eq!(token_texts(page), ["newer"]);
    world.device_with("a", ANDROID, "newest", &["news"]).await;
    let again = world.store().reread(page.id, 0).await.unwrap();
    assert!(matches!(&again[0].kind, TargetKind::Token(token) if token.as_str() == "newest"));
}
