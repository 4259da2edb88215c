//! The access token: how often it is asked for, and what follows when it is not to be had.

use std::cell::Cell;
use std::io::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bugle_model::{Outcome, Period, SystemClock};
use bugle_provider::TlsConfig;
use bugle_provider::fcm::{Config, Fcm};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::support::google::{Google, ok, status};
use crate::support::{
    Sending, client, config, credentials, is_accepted, key, open, run, until, waits, write_credentials,
};

fn denial() -> String {
    json!({"error": "invalid_grant", "error_description": "Invalid JWT Signature."}).to_string()
}

const REFUSED: Outcome = Outcome::Credential {
    reason: "invalid_grant",
    exchange_refused: true,
};

#[derive(Deserialize)]
struct Claims {
    iss: String,
    scope: String,
    iat: i64,
    exp: i64,
}

/// The account id of an assertion that is in order.
fn issuer(form: &str, audience: &str) -> String {
    let assertion = form
        .strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=")
        .unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[audience]);
    let public = DecodingKey::from_rsa_pem(key().public_key_pem().as_bytes()).unwrap();
    let token = jsonwebtoken::decode::<Claims>(assertion, &public, &validation).unwrap();
    assert_eq!(token.claims.scope, "https://www.googleapis.com/auth/firebase.messaging");
    assert_eq!(token.claims.exp - token.claims.iat, 3_600);
    let id = token.header.kid.unwrap();
    assert_eq!(token.claims.iss, format!("{id}@test-project.iam.gserviceaccount.com"));
    id
}

#[test]
fn the_assertion_is_what_google_asks_for() {
    run(async {
        let google = Google::start().await;
        let audience = google.token_uri();
        let file = credentials(&audience, "key-7");
        google.on_token(move |form| {
            assert_eq!(issuer(form, &audience), "key-7");
            status(200, r#"{"access_token":"at","expires_in":3599,"token_type":"Bearer"}"#)
        });
        assert!(is_accepted(&client(&config(&google.url(), &file)).send("x").await));
    });
}

#[test]
fn five_hundred_who_ask_at_once_share_one_exchange() {
    run(async {
        let google = Google::start().await;
        google.token_delay.set(Duration::from_millis(50));
        let file = credentials(&google.token_uri(), "a");
        let fcm = open(&config(&google.url(), &file));
        let clients = [Sending::new(fcm.clone(), 2), Sending::new(fcm, 2)];
        let all = clients.iter().map(|client| client.send_many(250));
        for outcomes in futures_util::future::join_all(all).await {
            assert!(outcomes.iter().all(is_accepted));
        }
        assert_eq!(google.exchanges.get(), 1);
    });
}

#[test]
fn an_asker_who_gives_up_does_not_stop_the_exchange() {
    run(async {
        let google = Google::start().await;
        google.token_delay.set(Duration::from_millis(50));
        let file = credentials(&google.token_uri(), "a");
        let fcm = client(&config(&google.url(), &file));
        let gone = tokio::time::timeout(Duration::from_millis(10), fcm.slot()).await;
        assert!(gone.is_err());
        assert!(is_accepted(&fcm.send("x").await));
        assert_eq!(google.exchanges.get(), 1);
    });
}

#[test]
fn a_thread_that_dies_with_the_exchange_leaves_it_to_another() {
    run(async {
        let google = Google::start().await;
        google.token_delay.set(Duration::from_hours(1));
        let file = credentials(&google.token_uri(), "a");
        let mut config = config(&google.url(), &file);
        config.request_timeout = Period::millis(20_000);
        let fcm = open(&config);
        let (die, doom) = oneshot::channel::<()>();
        let doomed = Arc::clone(&fcm);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(LocalSet::new().run_until(async {
                let sending = Sending::new(doomed, 2);
                tokio::select! {
                    _ = sending.send("x") => panic!("there is no token"),
                    _ = doom => {}
                }
            }));
        });
        until("the other thread has asked", || google.exchanges.get() == 1).await;
        let sending = Sending::new(fcm, 2);
        let mut waiting = Box::pin(sending.send("y"));
        assert!(waits(&mut waiting).await);
        google.token_delay.set(Duration::ZERO);
        die.send(()).unwrap();
        assert!(is_accepted(&waiting.await));
        assert_eq!(google.exchanges.get(), 2);
        thread.join().unwrap();
    });
}

#[test]
fn a_token_is_renewed_early_while_the_old_one_still_serves() {
    run(async {
        let google = Google::start().await;
        google.issue_tokens(2);
        let file = credentials(&google.token_uri(), "a");
        let fcm = client(&config(&google.url(), &file));
        assert!(is_accepted(&fcm.send("x").await));
        // Past four fifths of its life, asking is what makes it renewed; nobody waits for that.
        google.token_delay.set(Duration::from_millis(100));
        tokio::time::sleep(Duration::from_millis(1_650)).await;
        let begin = Instant::now();
        assert!(is_accepted(&fcm.send("x").await));
        assert!(begin.elapsed() < Duration::from_millis(90), "{:?}", begin.elapsed());
        until("it is renewed", || google.exchanges.get() == 2).await;
    });
}

#[test]
fn many_401_cost_one_exchange_and_all_are_repeated() {
    run(async {
        let google = Google::start().await;
        let file = credentials(&google.token_uri(), "a");
        google.on_send(|request| {
            if request.bearer() == "at1" {
                status(401, "")
            } else {
                ok()
            }
        });
        let fcm = client(&config(&google.url(), &file));
        assert!(fcm.send_many_again(300).await.iter().all(is_accepted));
        assert_eq!(google.exchanges.get(), 2);
        assert!(google.sends.get() <= 600);
    });
}

#[test]
fn a_401_that_stays_is_the_credentials_fault_and_hammers_nobody() {
    run(async {
        let google = Google::start().await;
        let file = credentials(&google.token_uri(), "a");
        google.on_send(|request| {
            if request.token() == "good" {
                ok()
            } else {
                status(403, "")
            }
        });
        let fcm = client(&config(&google.url(), &file));
        let denied = Outcome::Credential {
            reason: "PERMISSION_DENIED",
            exchange_refused: false,
        };
        for _ in 0..5 {
            assert!(fcm.send_many_again(50).await.iter().all(|outcome| *outcome == denied));
            assert!(is_accepted(&fcm.send("good").await));
        }
        assert_eq!(google.exchanges.get(), 2, "one replacement within seconds");
    });
}

#[test]
fn a_refused_exchange_is_told_at_once_and_not_repeated_at_once() {
    run(async {
        let google = Google::start().await;
        let file = credentials(&google.token_uri(), "a");
        google.on_token(|_| status(400, denial()));
        let fcm = client(&config(&google.url(), &file));
        for _ in 0..3 {
            assert!(fcm.send_many(100).await.iter().all(|outcome| *outcome == REFUSED));
        }
        assert_eq!((google.exchanges.get(), google.sends.get()), (1, 0));
        google.issue_tokens(3_600);
        let until_it_works = async {
            while !is_accepted(&fcm.send("x").await) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), until_it_works)
            .await
            .expect("it resumes by itself");
    });
}

#[test]
fn a_corrected_credentials_file_works_without_a_restart() {
    run(async {
        let google = Google::start().await;
        let audience = google.token_uri();
        let mut file = credentials(&audience, "revoked");
        let uri = audience.clone();
        google.on_token(move |form| match issuer(form, &uri).as_str() {
            "revoked" => status(400, denial()),
            _ => status(200, r#"{"access_token":"at"}"#),
        });
        let fcm = client(&config(&google.url(), &file));
        assert_eq!(fcm.send("x").await, REFUSED);
        write_credentials(&mut file, &audience, "corrected");
        let until_it_works = async {
            while !is_accepted(&fcm.send("x").await) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), until_it_works)
            .await
            .expect("the new file is read");
    });
}

#[test]
fn trouble_with_the_exchange_is_transient_and_passes() {
    run(async {
        let google = Google::start().await;
        let file = credentials(&google.token_uri(), "a");
        google.on_token(|_| status(503, ""));
        let fcm = client(&config(&google.url(), &file));
        let outcomes = fcm.send_many(50).await;
        let Outcome::Transient {
            reason: "token exchange",
            connection: Some(_),
            ..
        } = outcomes[0]
        else {
            panic!("{:?}", outcomes[0]);
        };
        assert!(
            outcomes.iter().all(|outcome| *outcome == outcomes[0]),
            "one attempt is one piece of evidence"
        );
        assert_eq!(google.exchanges.get(), 1);
        google.issue_tokens(3_600);
        assert!(
            is_accepted(&fcm.send("x").await),
            "who comes later waits for the next attempt"
        );
    });
}

#[test]
fn a_token_endpoint_that_is_not_there_is_transient() {
    run(async {
        let google = Google::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let file = credentials(&format!("http://{}/token", listener.local_addr().unwrap()), "a");
        drop(listener);
        let outcome = client(&config(&google.url(), &file)).send("x").await;
        assert!(
            matches!(
                outcome,
                Outcome::Transient {
                    reason: "token exchange",
                    ..
                }
            ),
            "{outcome:?}"
        );
    });
}

#[test]
fn a_plain_token_endpoint_may_speak_http2_only() {
    run(async {
        let google = Google::start_http2_only().await;
        let file = credentials(&google.token_uri(), "a");
        assert!(is_accepted(&client(&config(&google.url(), &file)).send("x").await));
    });
}

#[test]
fn a_bad_third_party_key_asks_for_no_new_token() {
    run(async {
        let google = Google::start().await;
        let file = credentials(&google.token_uri(), "a");
        let body = json!({"error": {"details": [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "THIRD_PARTY_AUTH_ERROR"}]}});
        let count = Rc::new(Cell::new(0));
        google.on_send(move |_| status(401, body.to_string()));
        let fcm = client(&config(&google.url(), &file));
        for outcome in fcm.send_many(10).await {
            assert!(matches!(
                outcome,
                Outcome::Credential {
                    reason: "THIRD_PARTY_AUTH_ERROR",
                    exchange_refused: false
                }
            ));
            count.set(count.get() + 1);
        }
        assert_eq!((google.exchanges.get(), google.sends.get()), (1, 10));
    });
}

#[test]
fn unfit_credentials_are_named_and_never_quoted() {
    let problem = |content: &str| {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let config = Config {
            credentials_file: file.path().to_str().unwrap().into(),
            ..Config::default()
        };
        let error = Fcm::open(&config, &TlsConfig::default(), Arc::new(SystemClock))
            .err()
            .unwrap();
        assert_eq!(error.key, "fcm.credentials_file");
        assert!(!error.to_string().contains("SECRET"), "{error}");
        error.problem
    };
    let with = |change: serde_json::Value| {
        let mut account = json!({"type": "service_account", "project_id": "p", "private_key": key().serialize_pem(), "client_email": "e",
            "token_uri": "https://localhost/token"});
        for (field, value) in change.as_object().unwrap() {
            account[field] = value.clone();
        }
        problem(&account.to_string())
    };
    assert!(problem("").contains("line 1"));
    assert!(problem(r#"{"private_key": ["SECRET"]}"#).contains("service account"));
    assert!(problem("{}").contains("`project_id` is missing"));
    assert!(with(json!({"private_key": "SECRET"})).contains("private_key"));
    assert!(with(json!({"private_key": KeyPairPem::elliptic()})).contains("private_key"));
    assert!(with(json!({"project_id": "p/../q"})).contains("project_id"));
    assert!(with(json!({"token_uri": "ftp://x"})).contains("token_uri"));
    assert!(with(json!({"type": "authorized_user"})).contains("service_account"));
}

struct KeyPairPem;

impl KeyPairPem {
    fn elliptic() -> String {
        rcgen::KeyPair::generate().unwrap().serialize_pem()
    }
}
