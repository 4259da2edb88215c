//! Whom we trust, as rustls wants it.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::config::{ConfigError, TlsConfig};

/// The authorities of the system (or, where it has none, Mozilla's as of this build) and those of `tls.extra_ca_file`.
#[derive(Clone)]
pub(crate) struct Trust(ClientConfig);

impl Trust {
    pub(crate) fn open(tls: &TlsConfig) -> Result<Self, ConfigError> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(native.certs);
        if roots.is_empty() {
            tracing::info!("the system has no certificate authorities, using the built-in ones");
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        add_extra(&mut roots, &tls.extra_ca_file)?;
        // Named, because the process may hold no default provider, or another one.
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| ConfigError::new("tls", e.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(config))
    }

    /// A configuration that offers these protocols.
    pub(crate) fn offering(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = self.0.clone();
        config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        Arc::new(config)
    }
}

fn add_extra(roots: &mut RootCertStore, file: &str) -> Result<(), ConfigError> {
    if file.is_empty() {
        return Ok(());
    }
    let problem = |what: String| ConfigError::new("tls.extra_ca_file", format!("{file}: {what}"));
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|e| problem(e.to_string()))?;
    if certificates.is_empty() {
        return Err(problem("no certificate in it, expected PEM".into()));
    }
    for certificate in certificates {
        roots.add(certificate).map_err(|e| problem(e.to_string()))?;
    }
    Ok(())
}
