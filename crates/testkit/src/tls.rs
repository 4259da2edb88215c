//! A certificate authority and a certificate of 127.0.0.1, as files, for private servers.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Three PEM files.
#[derive(Debug, Clone)]
pub struct Files {
    /// The authority that a client is to trust.
    pub authority: PathBuf,
    /// The certificate for `localhost` and 127.0.0.1; it may be a client's too.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Writes a new authority and a certificate from it into a directory; the authority's own key is forgotten.
#[must_use]
pub fn write(dir: &Path) -> Files {
    let mut params = CertificateParams::new(Vec::new()).expect("no names are fine");
    // A leaf of the same name as its issuer would be taken for self-signed.
    params
        .distinguished_name
        .push(DnType::CommonName, "bugle test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)
        .expect("names")
        .signed_by(&key, &issuer)
        .expect("a certificate");
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("write a PEM file");
        path
    };
    Files {
        authority: write("authority.pem", issuer.pem()),
        certificate: write("certificate.pem", certificate.pem()),
        key: write("key.pem", key.serialize_pem()),
    }
}
