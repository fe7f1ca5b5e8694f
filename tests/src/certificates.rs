//! Certificates of a test's own: an authority, a server, clients, and those that must not pass.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

/// A folder of certificates in PEM. `NAME.pem` has its private key in `NAME.key`:
///
/// - `ca`: the authority of all but the strangers; `stranger-ca`: theirs;
/// - `server`: for `localhost`, `127.0.0.1` and `::1`; `next-server`: the same, with another key;
/// - `expired`, `other-name`, `stranger-server`: servers nobody should believe;
/// - `client`: of `ann`; `bob`: of `bob`; `revoked`: of `eve`, in the list `crl.pem`;
/// - `expired-client`, `stranger`: clients nobody should believe.
pub struct Certificates {
    folder: TempDir,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    /// Makes them.
    pub fn make() -> Self {
        let this = Self {
            folder: tempfile::tempdir().expect("a temporary directory"),
        };
        let authority = this.authority("ca", "Test authority");
        let strangers = this.authority("stranger-ca", "Strangers' authority");
        let here = ["localhost", "127.0.0.1", "::1"];
        this.server(&authority, "server", &here, 2100);
        this.server(&authority, "next-server", &here, 2100);
        this.server(&authority, "expired", &here, 2020);
        this.server(&authority, "other-name", &["other.example"], 2100);
        this.server(&strangers, "stranger-server", &here, 2100);
        this.client(&authority, "client", "ann", 2100);
        this.client(&authority, "bob", "bob", 2100);
        this.client(&authority, "expired-client", "ann", 2020);
        this.client(&strangers, "stranger", "ann", 2100);
        let revoked = this.client(&authority, "revoked", "eve", 2100);
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: revoked,
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&authority.issuer).expect("a list");
        this.write("crl.pem", &list.pem().expect("a list in PEM"));
        this
    }

    /// Where a file of them is.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// [`Self::path`] for a command line.
    pub fn file(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).expect("the certificate is written");
    }

    fn authority(&self, name: &str, common_name: &str) -> Authority {
        let mut params = params(common_name, &[], 2100);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = self.key(name);
        let certificate = params.self_signed(&key).expect("an authority");
        self.write(&format!("{name}.pem"), &certificate.pem());
        Authority {
            issuer: Issuer::new(params, key),
        }
    }

    fn server(&self, authority: &Authority, name: &str, names: &[&str], last_year: i32) {
        let mut params = params(name, names, last_year);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(authority, name, &params);
    }

    /// Gives the serial number.
    fn client(
        &self,
        authority: &Authority,
        name: &str,
        common_name: &str,
        last_year: i32,
    ) -> SerialNumber {
        let mut params = params(common_name, &[], last_year);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let serial = SerialNumber::from_slice(format!("0{name}").as_bytes());
        params.serial_number = Some(serial.clone());
        self.issue(authority, name, &params);
        serial
    }

    fn issue(&self, authority: &Authority, name: &str, params: &CertificateParams) {
        let key = self.key(name);
        let certificate = params.signed_by(&key, &authority.issuer);
        self.write(
            &format!("{name}.pem"),
            &certificate.expect("a certificate").pem(),
        );
    }

    fn key(&self, name: &str) -> KeyPair {
        let key = KeyPair::generate().expect("a key");
        self.write(&format!("{name}.key"), &key.serialize_pem());
        key
    }
}

fn params(common_name: &str, names: &[&str], last_year: i32) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2019, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}
