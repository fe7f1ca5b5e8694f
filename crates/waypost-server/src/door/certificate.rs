//! Certificates, keys and revocation lists: read from files, with errors that say which file and what to do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The largest file that is read: a bundle of every public authority is 200 KiB.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Names taken from one client certificate; what it has beyond them is left out.
const NAMES_MAX: usize = 64;

/// Why a certificate, a key or a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is larger than any such file.
    #[error("{} is larger than {FILE_BYTES_MAX} bytes; it is not the file meant here", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// PEM that is broken.
    #[error("{} is damaged: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The file has no certificate.
    #[error("there is no certificate in {}{}", path.display(), remedy(*found))]
    NoCertificate {
        /// The file.
        path: PathBuf,
        /// What it has.
        found: Found,
    },
    /// The file has no private key.
    #[error("there is no private key in {}{}", path.display(), remedy(*found))]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What it has.
        found: Found,
    },
    /// The key is locked with a passphrase.
    #[error(
        "the private key in {} is encrypted, and nobody is here to type its passphrase; write it without: openssl pkey \
         -in '{}' -out key.pem, for its owner only (chmod 600 key.pem)",
        path.display(),
        path.display()
    )]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// The file has no revocation list.
    #[error("there is no certificate revocation list in {}; it may be PEM (-----BEGIN X509 CRL-----) or DER", path.display())]
    NoCrl {
        /// The file.
        path: PathBuf,
    },
    /// TLS cannot use what is in the file.
    #[error("{} cannot be used: {why}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The key belongs to another certificate.
    #[error(
        "the private key in {} is not that of the certificate in {}; the certificate of this server comes first in its \
         file, before those of its authorities",
        key.display(),
        cert.display()
    )]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A TLS door without a certificate.
    #[error("TLS needs a certificate and its key: --cert FILE --key FILE, or tls.cert and tls.key")]
    Missing,
    /// Client certificates without an authority to check them.
    #[error(
        "clients are asked for certificates and no authority is known for them; name its file in tls.client_ca"
    )]
    NoAuthority,
}

/// What was found in a file where something else was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A certificate.
    Certificate,
    /// A private key.
    Key,
    /// DER, it seems.
    Der,
    /// Nothing we know.
    Nothing,
}

fn remedy(found: Found) -> &'static str {
    match found {
        Found::Certificate => ", but a certificate: are the two files swapped?",
        Found::Key => ", but a private key: are the two files swapped?",
        Found::Der => {
            "; it looks like DER, and PEM is needed: openssl x509 (or pkey) -inform der -in FILE -out FILE.pem"
        }
        Found::Nothing => {
            "; PEM is needed, which begins with a line like -----BEGIN CERTIFICATE-----"
        }
    }
}

/// The sections of a PEM file, in order.
struct Sections {
    path: PathBuf,
    bytes: Vec<u8>,
    parts: Vec<(SectionKind, Vec<u8>)>,
}

impl Sections {
    fn read(path: &Path) -> Result<Self, CertificateError> {
        let failed = |source| CertificateError::Read {
            path: path.to_owned(),
            source,
        };
        if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
            let path = path.to_owned();
            return Err(CertificateError::TooLarge { path });
        }
        let bytes = fs::read(path).map_err(failed)?;
        let mut rest = bytes.as_slice();
        let mut sections = Vec::new();
        loop {
            match pem::from_buf(&mut rest) {
                Ok(Some(section)) => sections.push(section),
                Ok(None) => break,
                // What is no text holds no PEM; what it holds is told by who looked for something.
                Err(_) if sections.is_empty() && looks_like_der(&bytes) => break,
                Err(source) => {
                    let path = path.to_owned();
                    return Err(CertificateError::Damaged { path, source });
                }
            }
        }
        Ok(Self {
            path: path.to_owned(),
            bytes,
            parts: sections,
        })
    }

    fn found(&self) -> Found {
        let has = |wanted: &[SectionKind]| self.parts.iter().any(|(kind, _)| wanted.contains(kind));
        if has(&KEYS) {
            Found::Key
        } else if has(&[SectionKind::Certificate]) {
            Found::Certificate
        } else if looks_like_der(&self.bytes) {
            Found::Der
        } else {
            Found::Nothing
        }
    }
}

const KEYS: [SectionKind; 3] = [
    SectionKind::PrivateKey,
    SectionKind::RsaPrivateKey,
    SectionKind::EcPrivateKey,
];

/// A SEQUENCE of a length that takes two bytes: how every certificate, key and list begins.
fn looks_like_der(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x30, 0x82]) || bytes.starts_with(&[0x30, 0x81])
}

/// Every certificate of a file; there is at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let file = Sections::read(path)?;
    let found = file.found();
    let certificates: Vec<_> = file
        .parts
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    if certificates.is_empty() {
        let path = file.path;
        return Err(CertificateError::NoCertificate { path, found });
    }
    Ok(certificates)
}

/// The private key of a file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    let file = Sections::read(path)?;
    let (path, text) = (
        file.path.clone(),
        String::from_utf8_lossy(&file.bytes).into_owned(),
    );
    let found = file.found();
    let key = file.parts.into_iter().find_map(|(kind, der)| match kind {
        SectionKind::PrivateKey => Some(PrivateKeyDer::Pkcs8(der.into())),
        SectionKind::RsaPrivateKey => Some(PrivateKeyDer::Pkcs1(der.into())),
        SectionKind::EcPrivateKey => Some(PrivateKeyDer::Sec1(der.into())),
        _ => None,
    });
    // PKCS #8 says so in its label, the older formats in a header under theirs.
    let encrypted = [
        "-----BEGIN ENCRYPTED PRIVATE KEY-----",
        "Proc-Type: 4,ENCRYPTED",
    ];
    if encrypted.iter().any(|mark| text.contains(mark)) {
        return Err(CertificateError::EncryptedKey { path });
    }
    key.ok_or(CertificateError::NoKey { path, found })
}

/// Every revocation list of a file; there is at least one.
pub(super) fn revocation_lists(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, CertificateError> {
    let file = Sections::read(path)?;
    let lists: Vec<_> = file
        .parts
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Crl)
        .map(|(_, der)| CertificateRevocationListDer::from(der))
        .collect();
    if !lists.is_empty() {
        return Ok(lists);
    }
    if looks_like_der(&file.bytes) {
        return Ok(vec![file.bytes.into()]);
    }
    Err(CertificateError::NoCrl { path: file.path })
}

/// From when to when a certificate is good, in seconds since 1970; `None` if it cannot be read.
pub(super) fn validity_s(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let validity = parsed.validity();
    Some((
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    ))
}

/// The names a client's certificate gives it, as `kind=value`: what users are found by.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let mut names = vec![format!("sha256={}", hex(digest.as_ref()))];
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return names;
    };
    let subject = parsed.subject();
    names.extend(
        subject
            .iter_common_name()
            .filter_map(|name| name.as_str().ok())
            .map(|name| format!("cn={name}")),
    );
    names.extend(
        subject
            .iter_email()
            .filter_map(|name| name.as_str().ok())
            .map(|name| format!("email={name}")),
    );
    if let Ok(Some(alternatives)) = parsed.subject_alternative_name() {
        names.extend(
            alternatives
                .value
                .general_names
                .iter()
                .filter_map(|name| match name {
                    GeneralName::DNSName(name) => Some(format!("dns={name}")),
                    GeneralName::RFC822Name(name) => Some(format!("email={name}")),
                    GeneralName::URI(name) => Some(format!("uri={name}")),
                    _ => None,
                }),
        );
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names.truncate(NAMES_MAX);
    names
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
