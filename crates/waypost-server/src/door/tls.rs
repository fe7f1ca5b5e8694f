//! What a TLS door needs: made from files at the start, and again when they have changed.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::certificate::{self, CertificateError};
use crate::config::{ClientCertificates, ListenerConfig, TlsConfig};
use crate::stream::tls::Tls;

/// One door's TLS as it is now.
#[derive(Debug)]
pub(super) struct DoorTls {
    pub(super) config: Arc<ServerConfig>,
    /// For certificates that a resumed session brings along; `None`: clients have none.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    is_certificate_required: bool,
    /// When the server's certificate ends, in seconds since 1970.
    pub(super) expires_s: Option<i64>,
}

impl DoorTls {
    /// Reads the door's files.
    pub(super) fn load(door: &ListenerConfig) -> Result<Self, CertificateError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let cert = door.tls.cert.as_ref().ok_or(CertificateError::Missing)?;
        let key = door.tls.key.as_ref().ok_or(CertificateError::Missing)?;
        let chain = certificate::certificates(cert)?;
        let unusable = |why: rustls::Error| CertificateError::Unusable {
            path: key.clone(),
            why: why.to_string(),
        };
        let signing = provider
            .key_provider
            .load_private_key(certificate::private_key(key)?)
            .map_err(unusable)?;
        let expires_s = warn_of_validity(chain.first(), cert);
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            // A key that cannot tell its public half is believed.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(CertificateError::Mismatch {
                    cert: cert.clone(),
                    key: key.clone(),
                });
            }
            Err(why) => {
                return Err(CertificateError::Unusable {
                    path: cert.clone(),
                    why: why.to_string(),
                });
            }
        }
        let verifier = verifier(&door.tls, &provider)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let mut config = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        }
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
        // Who offers protocols and not this one is at the wrong door.
        let protocol: &[u8] = if door.protocol.is_websocket() {
            b"http/1.1"
        } else {
            b"mqtt"
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        // Sessions are kept by the clients, in tickets: resuming costs a phone no signature and the server no memory. The
        // keys of the tickets are new with every load, so none outlives what it was issued under.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(unusable)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        Ok(Self {
            config: Arc::new(config),
            verifier,
            is_certificate_required: door.tls.client_certificates == ClientCertificates::Required,
            expires_s,
        })
    }

    /// Whether what a resumed session remembers of its client's certificate still holds: resuming skips the check,
    /// and the certificate may have expired since.
    pub(super) fn is_still_good(&self, connection: &Tls) -> bool {
        let Some(verifier) = self.verifier.as_ref().filter(|_| connection.is_resumed()) else {
            return true;
        };
        match connection.peer_certificates().and_then(<[_]>::split_first) {
            Some((own, others)) => verifier
                .verify_client_cert(own, others, UnixTime::now())
                .is_ok(),
            None => !self.is_certificate_required,
        }
    }
}

fn verifier(
    tls: &TlsConfig,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, CertificateError> {
    if tls.client_certificates == ClientCertificates::None {
        return Ok(None);
    }
    let path = tls
        .client_ca
        .as_ref()
        .ok_or(CertificateError::NoAuthority)?;
    let unusable = |why: String| CertificateError::Unusable {
        path: path.clone(),
        why,
    };
    let mut roots = RootCertStore::empty();
    for authority in certificate::certificates(path)? {
        roots
            .add(authority)
            .map_err(|why| unusable(why.to_string()))?;
    }
    let mut crls = Vec::new();
    for path in &tls.crl {
        crls.extend(certificate::revocation_lists(path)?);
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .with_crls(crls)
            // Lists are kept for the authority that signs clients, seldom for those above it.
            .only_check_end_entity_revocation();
    if tls.client_certificates == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    match builder.build() {
        Ok(verifier) => Ok(Some(verifier)),
        Err(VerifierBuilderError::InvalidCrl(why)) => Err(CertificateError::Unusable {
            path: tls.crl.first().cloned().unwrap_or_default(),
            why: format!("a revocation list is not valid: {why:?}"),
        }),
        Err(why) => Err(unusable(why.to_string())),
    }
}

/// Says in the log if clients will not believe the certificate now; returns when it ends.
fn warn_of_validity(
    certificate: Option<&CertificateDer<'_>>,
    path: &std::path::Path,
) -> Option<i64> {
    let (from, to) = certificate::validity_s(certificate?)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs().cast_signed());
    let days = (to - now) / 86_400;
    if to < now {
        log::warn!(
            "the certificate in {} has expired: clients will refuse it; renew it, then send SIGHUP",
            path.display()
        );
    } else if from > now {
        log::warn!(
            "the certificate in {} is not valid yet; is the clock right?",
            path.display()
        );
    } else if days < 14 {
        log::warn!(
            "the certificate in {} expires in {days} days; renew it, then send SIGHUP",
            path.display()
        );
    }
    Some(to)
}
