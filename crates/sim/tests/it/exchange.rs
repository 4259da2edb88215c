//! The `OAuth2` endpoint and the bearers that it issues.

use bugle_sim::{Config, Outcome, Settings, Sim};
use http::Request;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::client::{Http2, assertion, grant, http1, signed, sim, unix_seconds};

#[tokio::test]
async fn a_right_assertion_buys_a_token_of_a_real_ones_length() {
    let sim = sim(Settings::default()).await;
    let client = Http2::open(&sim).await;
    let answer = client.exchange(&grant(&assertion(&sim, &json!({})))).await;
    let body = answer.json();
    assert_eq!(answer.status, 200);
    assert_eq!(
        (&body["expires_in"], &body["token_type"]),
        (&json!(3600), &json!("Bearer"))
    );
    assert_eq!(body["access_token"].as_str().unwrap().len(), 1000);
    let again = client.exchange(&grant(&assertion(&sim, &json!({})))).await;
    assert_ne!(again.json()["access_token"], body["access_token"]);
    assert_eq!((sim.stats().exchanges, sim.stats().exchanges_refused), (2, 0));
}

#[tokio::test]
async fn a_wrong_assertion_is_refused_as_google_refuses_it() {
    let sim = sim(Settings::default()).await;
    let client = Http2::open(&sim).await;
    let now = unix_seconds();
    for (changes, code, text) in [
        (json!({ "iss": "somebody@else" }), "invalid_grant", "account not found"),
        (
            json!({ "aud": "https://oauth2.googleapis.com/token" }),
            "invalid_grant",
            "audience",
        ),
        (
            json!({ "scope": "https://www.googleapis.com/auth/drive" }),
            "invalid_scope",
            "scope",
        ),
        (json!({ "exp": now + 3601 }), "invalid_grant", "short-lived"),
        (
            json!({ "iat": now - 7200, "exp": now - 3600 }),
            "invalid_grant",
            "short-lived",
        ),
        (
            json!({ "iat": now + 3000, "exp": now + 4000 }),
            "invalid_grant",
            "short-lived",
        ),
        (json!({ "iat": now, "exp": now - 1 }), "invalid_grant", "short-lived"),
        (json!({ "kid": "other" }), "invalid_grant", "Invalid JWT Signature"),
        (json!({ "alg": "none" }), "invalid_grant", "Invalid JWT Signature"),
    ] {
        let answer = client.exchange(&grant(&assertion(&sim, &changes))).await;
        let body = answer.json();
        assert_eq!(
            (answer.status.as_u16(), &body["error"]),
            (400, &json!(code)),
            "{changes}"
        );
        assert!(
            body["error_description"].as_str().unwrap().contains(text),
            "{changes}: {body}"
        );
    }
    for (form, code) in [
        ("grant_type=password", "unsupported_grant_type"),
        ("assertion=x", "invalid_request"),
        (&grant("a.b.c"), "invalid_grant"),
        (&grant(""), "invalid_grant"),
    ] {
        assert_eq!(client.exchange(form).await.json()["error"], code, "{form}");
    }
    assert_eq!((sim.stats().exchanges, sim.stats().exchanges_refused), (0, 13));
}

#[tokio::test]
async fn a_foreign_key_and_a_changed_claim_break_the_signature() {
    let sim = sim(Settings::default()).await;
    let client = Http2::open(&sim).await;
    let account: Value = serde_json::from_str(&sim.service_account_json()).unwrap();
    let foreign = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let forged = signed(&account, &foreign, &json!({}));
    let right = assertion(&sim, &json!({}));
    let other = assertion(&sim, &json!({ "jti": "other" }));
    let (head, signature) = (other.rsplit_once('.').unwrap().0, right.rsplit_once('.').unwrap().1);
    for wrong in [forged, format!("{head}.{signature}")] {
        let body = client.exchange(&grant(&wrong)).await.json();
        assert_eq!(body["error_description"], "Invalid JWT Signature.");
    }
}

#[tokio::test]
async fn the_url_that_was_asked_is_a_right_audience_too() {
    let sim = sim(Settings::default()).await;
    let form = grant(&assertion(&sim, &json!({ "aud": "http://proxy.example:99/token" })));
    let request = |host: &str| Request::post("/token").header("host", host).body(form.clone()).unwrap();
    let stream = TcpStream::connect(sim.addr()).await.unwrap();
    assert_eq!(http1(stream, request("proxy.example:99")).await.unwrap().status, 200);
    let stream = TcpStream::connect(sim.addr()).await.unwrap();
    assert_eq!(http1(stream, request("other.example:99")).await.unwrap().status, 400);
}

#[tokio::test]
async fn exchanges_can_be_refused_and_taken_up_again() {
    let sim = sim(Settings {
        reject_exchange: true,
        ..Settings::default()
    })
    .await;
    let client = Http2::open(&sim).await;
    let form = grant(&assertion(&sim, &json!({})));
    let answer = client.exchange(&form).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]),
        (400, &json!("invalid_grant"))
    );
    sim.merge(&json!({ "reject_exchange": false, "exchange_unavailable": true }))
        .unwrap();
    assert_eq!(client.exchange(&form).await.status, 503);
    sim.merge(&json!({ "exchange_unavailable": false })).unwrap();
    assert_eq!(client.exchange(&form).await.status, 200);
}

#[tokio::test]
async fn only_an_issued_unexpired_unrevoked_bearer_may_send() {
    let sim = sim(Settings::default()).await;
    let mut client = Http2::open(&sim).await;
    let missing = client.push("t").await.unwrap();
    assert_eq!(
        missing.detail("google.rpc.ErrorInfo").unwrap()["reason"],
        "CREDENTIALS_MISSING"
    );
    client.bearer = Some("ya29.guessed".to_owned());
    let guessed = client.push("t").await.unwrap();
    assert_eq!(
        (guessed.status.as_u16(), &guessed.json()["error"]["status"]),
        (401, &json!("UNAUTHENTICATED"))
    );
    assert!(guessed.headers.contains_key("www-authenticate"));

    client.authorize(&sim).await;
    assert_eq!(client.status("t").await, 200);
    sim.revoke();
    assert_eq!(client.status("t").await, 401);
    client.authorize(&sim).await;
    assert_eq!(client.status("t").await, 200);

    sim.merge(&json!({ "token_lifetime_s": 0 })).unwrap();
    client.authorize(&sim).await;
    assert_eq!(client.status("t").await, 401);
    let counts = sim.token("t").unwrap();
    assert_eq!(
        (counts.count(Outcome::Unauthorized), counts.count(Outcome::Accepted)),
        (4, 2)
    );
}

#[tokio::test]
async fn a_refused_bearer_does_not_use_up_a_tokens_faults() {
    let sim = sim(Settings::default()).await;
    let mut client = Http2::open(&sim).await;
    assert_eq!(client.status("unavailable1-x").await, 401);
    client.authorize(&sim).await;
    assert_eq!(client.status("unavailable1-x").await, 503);
    assert_eq!(client.status("unavailable1-x").await, 200);
}

#[tokio::test]
async fn the_length_of_access_tokens_is_configurable() {
    let sim = Sim::start(Config {
        access_token_bytes: 160,
        ..Config::default()
    })
    .await
    .unwrap();
    let client = Http2::authorized(&sim).await;
    assert_eq!(client.bearer.as_ref().unwrap().len(), 160);
    assert_eq!(client.status("t").await, 200);
}
