//! A provider's quota, drawn from by one process and by many.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bugle_model::{AppId, Provider};
use bugle_store::{Draw, Grant, Pace, Store, Throttle};
use rstest::rstest;

use super::world::{World, app};
use crate::backend::Backend;

/// A thousand messages a second, without a ramp.
const THOUSAND: Pace = Pace {
    per_second: 1_000.0,
    ramp_up: Duration::ZERO,
};

fn some(permits: u32) -> Draw {
    Draw {
        pace: THOUSAND,
        permits,
        throttle: None,
    }
}

async fn draw(store: &dyn Store, draw: Draw) -> Grant {
    store.draw(&app(), Provider::Fcm, draw).await.unwrap()
}

/// Draws as fast as it goes for so long, and uses each permit when it may; how many that were.
async fn greedily(store: Arc<dyn Store>, until: Instant) -> u32 {
    let mut used = 0;
    loop {
        let grant = draw(store.as_ref(), some(u32::MAX)).await;
        if Instant::now() + grant.wait >= until {
            return used;
        }
        used += grant.permits;
        tokio::time::sleep(grant.wait).await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_is_drawn_than_the_rate_allows_and_hardly_less(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    let begin = Instant::now();
    let used = greedily(world.shared(), begin + Duration::from_secs(1)).await;
    // A piece more than the second has; a slow machine draws less, but not half as much.
    assert!((500..=1_100).contains(&used), "{used}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_together_draw_no_more_than_one() {
    let world = World::new(Backend::Postgres).await;
    let second = world.second().await;
    let until = Instant::now() + Duration::from_secs(1);
    let (one, other) = tokio::join!(
        greedily(world.shared(), until),
        greedily(Arc::clone(&second.store), until)
    );
    assert!(one + other <= 1_200, "{one} and {other}");
    assert!(one >= 100 && other >= 100, "{one} and {other}");
}

#[rstest]
#[tokio::test]
async fn apps_and_providers_have_quotas_of_their_own(#[values(Backend::Sqlite, Backend::Postgres)] backend: Backend) {
    let world = World::new(backend).await;
    for _ in 0..20 {
        draw(world.store(), some(100)).await;
    }
    assert!(draw(world.store(), some(100)).await.wait > Duration::ZERO);
    for (name, provider) in [("default", Provider::Apns), ("another", Provider::Fcm)] {
        let name = AppId::parse(name).unwrap();
        let grant = world.store().draw(&name, provider, some(100)).await.unwrap();
        assert_eq!((grant.permits, grant.wait), (100, Duration::ZERO));
    }
}

#[rstest]
#[tokio::test]
async fn a_throttle_is_heard_of_by_who_asks_for_nothing_and_stops_who_draws(
    #[values(Backend::Sqlite, Backend::Postgres)] backend: Backend,
) {
    let world = World::new(backend).await;
    let nothing = Draw {
        pace: Pace::UNLIMITED,
        ..some(0)
    };
    assert_eq!(draw(world.store(), nothing).await.throttled, Duration::ZERO);
    let told = Draw {
        throttle: Some(Throttle {
            after: Some(Duration::from_secs(30)),
        }),
        ..nothing
    };
    draw(world.store(), told).await;
    let heard = match backend {
        Backend::Sqlite => draw(world.store(), nothing).await,
        Backend::Postgres => draw(world.second().await.store.as_ref(), nothing).await,
    };
    let about = Duration::from_secs(20)..=Duration::from_secs(30);
    assert!(about.contains(&heard.throttled), "{heard:?}");
    let refused = draw(world.store(), some(10)).await;
    assert_eq!(refused.permits, 0);
    assert!(about.contains(&refused.throttled), "{refused:?}");
}
