//! TLS: whom we trust.

use std::io::Write;
use std::sync::Arc;

use bugle_model::{Outcome, SystemClock};
use bugle_provider::TlsConfig;
use bugle_provider::fcm::{Config, Fcm};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tempfile::NamedTempFile;

use crate::support::google::Google;
use crate::support::{Sending, config, credentials, is_accepted, run};

/// An authority and a server configuration with a certificate for `localhost` from it.
fn authority(protocols: &[&[u8]]) -> (NamedTempFile, rustls::ServerConfig) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".into()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(issuer.pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    server.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    (file, server)
}

fn open(config: &Config, ca: Option<&NamedTempFile>) -> Result<Sending, bugle_provider::ConfigError> {
    let tls = TlsConfig {
        extra_ca_file: ca.map_or(String::new(), |file| file.path().to_str().unwrap().into()),
    };
    Ok(Sending::new(Fcm::open(config, &tls, Arc::new(SystemClock))?, 1))
}

#[test]
fn an_extra_authority_is_trusted_for_tokens_and_messages() {
    run(async {
        for protocols in [&[&b"h2"[..], b"http/1.1"][..], &[b"h2"]] {
            let (ca, server) = authority(protocols);
            let google = Google::start_tls(server).await;
            let url = format!("https://localhost:{}", google.port);
            let file = credentials(&format!("{url}/token"), "a");
            let fcm = open(&config(&url, &file), Some(&ca)).unwrap();
            assert!(fcm.send_many(200).await.iter().all(is_accepted));
        }
    });
}

#[test]
fn a_foreign_authority_is_not() {
    run(async {
        let (_, server) = authority(&[b"h2"]);
        let (other, _) = authority(&[b"h2"]);
        let google = Google::start_tls(server).await;
        let tokens = Google::start().await;
        let file = credentials(&tokens.token_uri(), "a");
        let config = config(&format!("https://localhost:{}", google.port), &file);
        for ca in [None, Some(&other)] {
            let outcome = open(&config, ca).unwrap().send("x").await;
            assert!(
                matches!(outcome, Outcome::Transient { reason: "connect", .. }),
                "{outcome:?}"
            );
        }
        assert_eq!(google.sends.get(), 0);
    });
}

#[test]
fn a_certificate_for_another_host_is_not_taken() {
    run(async {
        let (ca, server) = authority(&[b"h2"]);
        let google = Google::start_tls(server).await;
        let tokens = Google::start().await;
        let file = credentials(&tokens.token_uri(), "a");
        let fcm = open(&config(&format!("https://127.0.0.1:{}", google.port), &file), Some(&ca)).unwrap();
        assert!(matches!(
            fcm.send("x").await,
            Outcome::Transient { reason: "connect", .. }
        ));
    });
}

#[test]
fn a_server_without_http2_is_no_fcm() {
    run(async {
        let (ca, server) = authority(&[b"http/1.1"]);
        let google = Google::start_tls(server).await;
        let tokens = Google::start().await;
        let file = credentials(&tokens.token_uri(), "a");
        let fcm = open(&config(&format!("https://localhost:{}", google.port), &file), Some(&ca)).unwrap();
        assert!(matches!(
            fcm.send("x").await,
            Outcome::Transient { reason: "connect", .. }
        ));
    });
}

#[test]
fn a_file_without_certificates_is_named() {
    let file = credentials("https://localhost/token", "a");
    let empty = NamedTempFile::new().unwrap();
    let error = open(&config("https://localhost", &file), Some(&empty)).err().unwrap();
    assert_eq!(error.key, "tls.extra_ca_file");
    let missing = TlsConfig {
        extra_ca_file: "/nonexistent/ca.pem".into(),
    };
    let error = Fcm::open(&config("https://localhost", &file), &missing, Arc::new(SystemClock))
        .err()
        .unwrap();
    assert_eq!(error.key, "tls.extra_ca_file");
}
