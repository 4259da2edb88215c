//! Who the simulator is: a certificate authority with one leaf, and a service account with its RSA key.
//!
//! With a state directory the two private keys survive a restart; the leaf and the service account's file are made
//! anew each time, because they name the port.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, RsaKeySize};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{Error, Result};

const CA: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";
const ACCOUNT: &str = "service-account.json";

/// The files that a client of the simulator needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate authority to trust, PEM.
    pub ca: PathBuf,
    /// The service account, in Google's JSON.
    pub service_account: PathBuf,
}

/// The keys of one simulator.
pub(crate) struct Identity {
    pub(crate) ca_pem: String,
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) account: ServiceAccount,
}

/// What a service-account file says, with the public half of its key.
pub(crate) struct ServiceAccount {
    pub(crate) project: String,
    pub(crate) email: String,
    pub(crate) token_uri: String,
    pub(crate) key_id: String,
    /// A `SubjectPublicKeyInfo`, DER.
    pub(crate) public_key: Vec<u8>,
    private_key: String,
}

impl Identity {
    /// Makes the keys, or reads them from the state directory; takes about a tenth of a second for a new RSA key.
    pub(crate) fn load(config: &Config, url: &str) -> Result<Self> {
        let dir = config.state_dir.as_deref();
        if let Some(dir) = dir {
            std::fs::create_dir_all(dir).map_err(|source| Error::File {
                path: dir.to_owned(),
                source,
            })?;
        }
        let (issuer, ca_pem) = authority(dir)?;
        let tls = Arc::new(server_config(&issuer, config)?);
        let account = ServiceAccount::load(dir, &config.project, url)?;
        let identity = Self { ca_pem, tls, account };
        if let Some(dir) = dir {
            write_files(dir, &identity.ca_pem, &identity.account)?;
        }
        Ok(identity)
    }
}

/// Writes what a client needs into this directory.
pub(crate) fn write_files(dir: &Path, ca_pem: &str, account: &ServiceAccount) -> Result<Files> {
    let files = Files {
        ca: dir.join(CA),
        service_account: dir.join(ACCOUNT),
    };
    write(&files.ca, ca_pem)?;
    write(&files.service_account, &account.json())?;
    Ok(files)
}

/// The authority under which the leaf is issued, and its certificate.
///
/// The issuer is rebuilt from the key and constant names, so that a stored certificate needs no parsing.
fn authority(dir: Option<&Path>) -> Result<(Issuer<'static, KeyPair>, String)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "bugle simulator CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let paths = dir.map(|dir| (dir.join(CA_KEY), dir.join(CA)));
    if let Some((key_path, path)) = &paths
        && let (Some(key), Some(pem)) = (read(key_path)?, read(path)?)
    {
        let key = KeyPair::from_pem(&key).map_err(|error| Error::State {
            path: key_path.clone(),
            reason: error.to_string(),
        })?;
        return Ok((Issuer::new(params, key), pem));
    }
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    if let Some((key_path, _)) = &paths {
        write(key_path, &key.serialize_pem())?;
    }
    Ok((Issuer::new(params, key), pem))
}

fn server_config(issuer: &Issuer<'static, KeyPair>, config: &Config) -> Result<rustls::ServerConfig> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(config.host.iter().chain(&config.names).cloned());
    if !config.listen.ip().is_unspecified() {
        names.push(config.listen.ip().to_string());
    }
    names.sort_unstable();
    names.dedup();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "bugle simulator");
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, issuer)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

impl ServiceAccount {
    fn load(dir: Option<&Path>, project: &str, url: &str) -> Result<Self> {
        let stored = match dir {
            Some(dir) => stored_key(&dir.join(ACCOUNT))?,
            None => None,
        };
        let (key, key_id) = match stored {
            Some(stored) => stored,
            None => (
                KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048)?,
                random_hex(),
            ),
        };
        Ok(Self {
            project: project.to_owned(),
            email: format!("simulator@{project}.iam.gserviceaccount.com"),
            token_uri: format!("{url}/token"),
            key_id,
            public_key: rcgen::PublicKeyData::subject_public_key_info(&key),
            private_key: key.serialize_pem(),
        })
    }

    /// The file as Google's console hands it out.
    pub(crate) fn json(&self) -> String {
        let file = json!({
            "type": "service_account",
            "project_id": self.project,
            "private_key_id": self.key_id,
            "private_key": self.private_key,
            "client_email": self.email,
            "client_id": "100000000000000000000",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": self.token_uri,
            "universe_domain": "googleapis.com",
        });
        format!("{file:#}\n")
    }
}

/// The private key and its id in a service-account file that an earlier simulator wrote.
fn stored_key(path: &Path) -> Result<Option<(KeyPair, String)>> {
    let Some(text) = read(path)? else { return Ok(None) };
    let wrong = |reason: String| Error::State {
        path: path.to_owned(),
        reason,
    };
    let file: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let (Some(pem), Some(id)) = (file["private_key"].as_str(), file["private_key_id"].as_str()) else {
        return Err(wrong("no private_key or private_key_id".to_owned()));
    };
    let key = KeyPair::from_pem(pem).map_err(|error| wrong(error.to_string()))?;
    Ok(Some((key, id.to_owned())))
}

/// Forty hexadecimal digits, the shape of Google's key ids.
fn random_hex() -> String {
    let mut bytes = [0; 20];
    fill(&mut bytes);
    bytes
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Fills with random bytes.
#[expect(
    clippy::expect_used,
    reason = "the system's random source does not fail once it has been seeded"
)]
pub(crate) fn fill(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the system has random bytes");
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Writes a file that only its owner may read: all but one hold a private key.
fn write(path: &Path, text: &str) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| Error::File {
        path: path.to_owned(),
        source,
    })
}
