//! TLS as a client, for RabbitMQ and for Discord: which authorities are trusted, and who we are.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no certificate or key.
    #[error("{path} holds no {wanted} in PEM: {reason}")]
    NotPem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key do not fit each other, or an authority's certificate cannot be used.
    #[error("{what}: {source}")]
    Unusable {
        /// What.
        what: String,
        /// Why.
        source: rustls::Error,
    },
}

/// Our own certificate and its key, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, followed by its chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The configuration for Discord: made when it is first needed, since reading the system's authorities takes time and
/// memory, and a simulator or a proxy nearby is spoken to without TLS.
#[derive(Debug, Default)]
pub struct Lazy(OnceLock<Arc<ClientConfig>>);

impl Lazy {
    /// The configuration.
    ///
    /// # Errors
    /// As [`client_config`].
    pub fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(config) = self.0.get() {
            return Ok(config.clone());
        }
        let config = client_config(None, None)?;
        Ok(self.0.get_or_init(|| config).clone())
    }
}

/// Trusts the authorities in `ca_file`; without one the system's, and where the system has none those that browsers trust.
///
/// # Errors
/// When a file named is not what it should be.
pub fn client_config(
    ca_file: Option<&Path>,
    client: Option<&ClientCertificate>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the ring provider has ciphers for TLS 1.2 and 1.3")
        .with_root_certificates(roots(ca_file)?);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let key = PrivateKeyDer::from_pem_slice(&read(&client.key)?)
                .map_err(|error| not_pem(&client.key, "private key", error.to_string()))?;
            builder.with_client_auth_cert(certificates(&client.certificate)?, key).map_err(|source| {
                TlsError::Unusable { what: format!("the certificate {}", client.certificate.display()), source }
            })?
        }
    };
    Ok(Arc::new(config))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|source| TlsError::Unusable { what: format!("the authority {}", path.display()), source })?;
        }
        return Ok(roots);
    }
    // Single certificates of the system that cannot be read are its own business.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| not_pem(path, "certificate", error.to_string()))?;
    if certificates.is_empty() {
        return Err(not_pem(path, "certificate", "none found".to_owned()));
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })
}

fn not_pem(path: &Path, wanted: &'static str, reason: String) -> TlsError {
    TlsError::NotPem { path: path.to_owned(), wanted, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_files_some_authorities_are_trusted() {
        assert!(!roots(None).expect("never fails").is_empty());
        assert!(client_config(None, None).is_ok());
    }

    #[test]
    fn a_file_that_is_not_there_or_holds_nothing_is_named() {
        let missing = client_config(Some(Path::new("/nowhere/ca.pem")), None).expect_err("not there");
        assert!(missing.to_string().starts_with("cannot read /nowhere/ca.pem"), "{missing}");
        let file = tempfile::NamedTempFile::new().expect("a file");
        let empty = client_config(Some(file.path()), None).expect_err("empty");
        assert!(empty.to_string().contains("holds no certificate in PEM"), "{empty}");
    }
}
