//! TLS, the files, and what survives a restart.

use bugle_sim::{Config, Error, Settings, Sim};
use http::Request;
use serde_json::{Value, json};

use crate::client::{Http2, http1, sim, tls, tls_trusting};

#[tokio::test]
async fn over_tls_both_protocols_are_spoken_to_those_who_trust_the_ca() {
    let sim = Sim::start(Config {
        tls: true,
        ..Config::default()
    })
    .await
    .unwrap();
    assert_eq!(sim.endpoint(), format!("https://{}", sim.addr()));
    let mut client = Http2::open_tls(&sim).await;
    client.authorize(&sim).await;
    assert_eq!(client.status("t").await, 200);

    let get = || {
        Request::get("/sim/stats")
            .header("host", "localhost")
            .body(String::new())
            .unwrap()
    };
    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let stream = tls(&sim, alpn).await.unwrap();
        assert_eq!(http1(stream, get()).await.unwrap().json()["requests"], 1);
    }
    // HTTP/2 with prior knowledge inside TLS, and plain text beside it.
    let stream = tls(&sim, &[]).await.unwrap();
    let inside = Http2::over(stream, sim.endpoint().to_owned()).await;
    assert_eq!(inside.get("/sim/stats").await.status, 200);
    assert_eq!(Http2::open(&sim).await.get("/sim/stats").await.status, 200);
}

#[tokio::test]
async fn another_simulators_ca_is_not_trusted() {
    let (one, two) = (sim(Settings::default()).await, sim(Settings::default()).await);
    assert!(tls_trusting(&one, two.ca_pem(), &[b"h2"]).await.is_err());
}

#[tokio::test]
async fn the_service_account_has_what_googles_have() {
    let sim = Sim::start(Config {
        project: "shop".to_owned(),
        ..Config::default()
    })
    .await
    .unwrap();
    let account: Value = serde_json::from_str(&sim.service_account_json()).unwrap();
    assert_eq!(
        (&account["type"], &account["project_id"]),
        (&json!("service_account"), &json!("shop"))
    );
    assert_eq!(account["client_email"], "simulator@shop.iam.gserviceaccount.com");
    assert_eq!(account["token_uri"], format!("{}/token", sim.endpoint()));
    assert!(
        account["private_key"]
            .as_str()
            .unwrap()
            .starts_with("-----BEGIN PRIVATE KEY-----")
    );
    assert_eq!(account["private_key_id"].as_str().unwrap().len(), 40);
}

#[tokio::test]
async fn a_restarted_simulator_with_a_state_directory_is_the_same_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = || Config {
        state_dir: Some(dir.path().join("sim")),
        tls: true,
        ..Config::default()
    };
    let first = Sim::start(config()).await.unwrap();
    let (ca, account) = (first.ca_pem().to_owned(), first.service_account_json());
    assert_eq!(std::fs::read_to_string(dir.path().join("sim/ca.pem")).unwrap(), ca);
    let addr = first.addr();
    first.stop().await;

    let second = Sim::start(Config {
        listen: addr,
        ..config()
    })
    .await
    .unwrap();
    assert_eq!(second.ca_pem(), ca);
    assert_eq!(second.service_account_json(), account);
    let mut client = Http2::open_tls(&second).await;
    client.authorize(&second).await;
    assert_eq!(client.status("t").await, 200);
}

#[tokio::test]
async fn files_are_written_on_request_for_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let sim = sim(Settings::default()).await;
    let files = sim.write_files(dir.path()).unwrap();
    assert_eq!(std::fs::read_to_string(&files.ca).unwrap(), sim.ca_pem());
    assert_eq!(
        std::fs::read_to_string(&files.service_account).unwrap(),
        sim.service_account_json()
    );
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&files.service_account).unwrap());
        assert_eq!(mode & 0o077, 0);
    }
}

#[tokio::test]
async fn a_start_that_cannot_succeed_says_why() {
    let sim = sim(Settings::default()).await;
    let taken = Sim::start(Config {
        listen: sim.addr(),
        ..Config::default()
    })
    .await;
    assert!(matches!(taken, Err(Error::Listen { address, .. }) if address == sim.addr()));

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("service-account.json"), "{}").unwrap();
    let broken = Sim::start(Config {
        state_dir: Some(dir.path().to_owned()),
        ..Config::default()
    })
    .await;
    assert!(matches!(broken, Err(Error::State { .. })));

    let settings = Settings {
        stream_limit: 0,
        ..Settings::default()
    };
    let wrong = Sim::start(Config {
        settings,
        ..Config::default()
    })
    .await;
    assert!(matches!(wrong, Err(Error::Settings(_))));
}
