//! How a client proves the server, and itself: files to a TLS configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};
use rustls_native_certs::{CertificateResult, ErrorKind, load_certs_from_paths, load_native_certs};

/// What the command line says about TLS.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// Authorities to trust: a file.
    pub ca_file: Option<PathBuf>,
    /// Authorities to trust: all files of a directory. Neither: the system's.
    pub ca_path: Option<PathBuf>,
    /// The client's certificate chain and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The server's certificate may be for any name.
    pub any_name: bool,
    /// TLS 1.2 is too old.
    pub only_13: bool,
}

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Nobody to trust in what was named.
    #[error("{}: no certificate of an authority can be read there{}", path.display(), because(why))]
    NoAuthorities {
        /// The file or directory.
        path: PathBuf,
        /// What went wrong reading it.
        why: Vec<rustls_native_certs::Error>,
    },
    /// Nobody to trust in the system.
    #[error("this system has no certificates of authorities; name one: --cafile FILE")]
    NoSystemAuthorities,
    /// The client's certificate or key.
    #[error("{}: {}", path.display(), pem_text(error, what))]
    Pem {
        /// The file.
        path: PathBuf,
        /// What should be in it.
        what: &'static str,
        /// Why it is not.
        error: pem::Error,
    },
    /// The key is another certificate's, or of a kind nobody takes.
    #[error("{} and {} do not go together: {error}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        error: rustls::Error,
    },
    /// The library's own refusal.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// The configuration all connections of a command share.
pub fn client_config(options: &TlsOptions) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: &[&SupportedProtocolVersion] = if options.only_13 {
        &[&TLS13]
    } else {
        &[&TLS13, &TLS12]
    };
    let roots = authorities(options)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)?;
    let builder = if options.any_name {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyName::new(roots, &provider)))
    } else {
        builder.with_root_certificates(roots)
    };
    let config = match &options.certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(chain(certificate)?, private_key(key)?)
            .map_err(|error| TlsError::Pair {
                certificate: certificate.clone(),
                key: key.clone(),
                error,
            })?,
    };
    Ok(Arc::new(config))
}

fn authorities(options: &TlsOptions) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let mut add = |found: CertificateResult| {
        let (added, _) = roots.add_parsable_certificates(found.certs);
        (added, found.errors)
    };
    let named = [(&options.ca_file, true), (&options.ca_path, false)];
    for (path, is_file) in named {
        let Some(path) = path else { continue };
        let (file, directory) = if is_file {
            (Some(path.as_path()), None)
        } else {
            (None, Some(path.as_path()))
        };
        let (added, why) = add(load_certs_from_paths(file, directory));
        if added == 0 {
            return Err(TlsError::NoAuthorities {
                path: path.clone(),
                why,
            });
        }
    }
    if options.ca_file.is_none() && options.ca_path.is_none() && add(load_native_certs()).0 == 0 {
        return Err(TlsError::NoSystemAuthorities);
    }
    Ok(roots)
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |error| TlsError::Pem {
        path: path.to_owned(),
        what: "certificate",
        error,
    };
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed)?;
    if chain.is_empty() {
        return Err(failed(pem::Error::NoItemsFound));
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsError::Pem {
        path: path.to_owned(),
        what: "private key",
        error,
    })
}

fn because(why: &[rustls_native_certs::Error]) -> String {
    let why = why.first().map(|error| match &error.kind {
        ErrorKind::Io { inner, .. } | ErrorKind::Pem(pem::Error::Io(inner)) => inner.to_string(),
        ErrorKind::Pem(error) => error.to_string(),
        other => format!("{other:?}"),
    });
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

fn pem_text(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::NoItemsFound if what == "private key" => {
            "no private key in PEM without a password; `openssl pkey -in FILE` takes one off"
                .to_owned()
        }
        pem::Error::NoItemsFound => format!("no {what} in PEM"),
        pem::Error::Io(error) => error.to_string(),
        other => format!("not the PEM of a {what}: {other}"),
    }
}

/// Trusts a certificate of a trusted authority for whatever name it is.
#[derive(Debug)]
struct AnyName {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyName {
    fn new(roots: RootCertStore, provider: &CryptoProvider) -> Self {
        Self {
            roots,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
