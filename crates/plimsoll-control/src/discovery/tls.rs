//! TLS to a registry, as its client: who it is has to be proved to us, by its name and up to a certificate that is believed.
//!
//! A connection goes in and an encrypted one comes out, or why not. Nothing here can be switched off. What is believed is read at each question,
//! which is every few seconds at most, so that a certificate that was replaced is taken without a reload.

use std::io;
use std::path::Path;
use std::sync::Arc;

use plimsoll_config::model::Roots;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore, crypto};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Talks TLS over a connection to `host`, a name or an IP address.
///
/// # Errors
/// In one line: it is not proved that this is `host`, or nothing can be believed.
pub(super) async fn connect(
    roots: &Roots,
    host: &str,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|e| format!("no TLS with {host}: {e}"))?;
    // Files, and sometimes hundreds of them: whoever waits for them must not be the loop that signals and publications go through.
    let roots = roots.clone();
    let read = tokio::task::spawn_blocking(move || config(&roots)).await;
    let config = read.map_err(|_| "reading certificates ended by a defect".to_owned())??;
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.map_err(|e| format!("no TLS with {host}: {e}{}", hint(&e)))
}

/// What an operator may do about it.
fn hint(error: &io::Error) -> &'static str {
    let why = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match why {
        Some(rustls::Error::InvalidMessage(_)) => " (does it talk TLS? without it is `http://`)",
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            " (`ca` names the file with the authority that is to be believed)"
        }
        _ => "",
    }
}

fn config(roots: &Roots) -> Result<ClientConfig, String> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let store = match roots {
        Roots::System => of_system()?,
        Roots::File(path) => of_file(path)?,
    };
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}

/// As OpenSSL finds them, `SSL_CERT_FILE` and `SSL_CERT_DIR` included.
fn of_system() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // Among a hundred of the system's there may be one that is too old to be understood.
    let (taken, _) = store.add_parsable_certificates(found.certs);
    let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    (taken > 0).then_some(store).ok_or_else(|| {
        format!("the system believes no certificate (is ca-certificates installed?) {}", reasons.join("; "))
    })
}

/// Whether the file of an authority has something that can be believed.
///
/// # Errors
/// Why not, in one line.
pub fn look_at_authority(path: &Path) -> Result<(), String> {
    of_file(path).map(drop)
}

fn of_file(path: &Path) -> Result<RootCertStore, String> {
    let wrong = |reason: String| format!("{}: {reason}", path.display());
    let unread = |error: pem::Error| match error {
        pem::Error::Io(error) => wrong(format!("cannot read it: {error}")),
        other => wrong(other.to_string()),
    };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unread)? {
        store.add(certificate.map_err(unread)?).map_err(|e| wrong(e.to_string()))?;
    }
    if store.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    Ok(store)
}
