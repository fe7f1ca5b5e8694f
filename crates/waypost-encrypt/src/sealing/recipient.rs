//! How a recipient gets the content key: by key agreement (RFC 9053, 6.3 and 6.4), by RSA (RFC 8230, 3), or wrapped under a
//! shared key (RFC 9053, 6.2).

use aws_lc_rs::agreement::{self, ECDH_P256, UnparsedPublicKey, X25519};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use aws_lc_rs::rsa::OAEP_SHA256_MGF1SHA256;
use coset::cbor::Value;
use coset::{CoseRecipient, Header};
use zeroize::Zeroizing;

use super::cbor::{self, NULL};
use super::header;
use crate::key::expanded;
use crate::keys::{COORDINATE_BYTES, POINT_BYTES, PrivateMaterial, PublicMaterial};
use crate::{KEY_BYTES, KeyId, NoRandomness, PrivateKey, PublicKey, Random};

/// Numbers of COSE's table of algorithms.
pub(super) const ECDH_ES_DIRECT: i64 = -25;
pub(super) const ECDH_ES_A256KW: i64 = -31;
pub(super) const RSA_OAEP_256: i64 = -41;
pub(super) const A256KW: i64 = -5;

/// Bytes of a wrapped content key.
const WRAPPED_BYTES: usize = KEY_BYTES + 8;

/// How often an ephemeral scalar is drawn: one in 2^32 of P-256 is none.
const DRAWS_MAX: usize = 8;

/// The labels of a COSE key (RFC 9053, 7).
const EPHEMERAL: i64 = -1;
const KEY_TYPE: i64 = 1;
const OKP: i64 = 1;
const EC2: i64 = 2;
const CURVE: i64 = -1;
const X: i64 = -2;
const Y: i64 = -3;
const P256_CURVE: i64 = 1;
const X25519_CURVE: i64 = 4;

/// A key for one content.
pub(super) type ContentKey = Zeroizing<[u8; KEY_BYTES]>;

/// A random content key.
pub(super) fn content_key(random: &mut dyn Random) -> Result<ContentKey, NoRandomness> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    random.fill(&mut *key)?;
    Ok(key)
}

/// Why a recipient could not be given the content key.
pub(super) enum Refused {
    NoRandomness,
    Key,
}

impl From<NoRandomness> for Refused {
    fn from(_: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

/// Writes the one recipient whose agreement is the content key, and gives that key.
pub(super) fn write_direct(
    to: &PublicKey,
    content: i64,
    random: &mut dyn Random,
    into: &mut Vec<u8>,
) -> Result<ContentKey, Refused> {
    let protected = protected_of(ECDH_ES_DIRECT);
    let (secret, ephemeral) = agreed(to, random)?;
    let key = expanded(&*secret, &[], &context(content, KEY_BITS, &protected));
    write_agreement(to, &protected, &ephemeral, b"", into);
    Ok(key)
}

/// Writes a recipient with the content key wrapped for its key.
pub(super) fn write_wrapped(
    to: &PublicKey,
    key: &ContentKey,
    random: &mut dyn Random,
    into: &mut Vec<u8>,
) -> Result<(), Refused> {
    if let Some(oaep) = to.oaep() {
        let mut sealed = vec![0; oaep.ciphertext_size()];
        let sealed = oaep
            .encrypt(&OAEP_SHA256_MGF1SHA256, &**key, &mut sealed, None)
            .map_err(|_| Refused::Key)?;
        write_plain(RSA_OAEP_256, to.id(), sealed, into);
        return Ok(());
    }
    let protected = protected_of(ECDH_ES_A256KW);
    let (secret, ephemeral) = agreed(to, random)?;
    let kek = expanded(&*secret, &[], &context(A256KW, KEY_BITS, &protected));
    let wrapped = wrapped(&kek, key).ok_or(Refused::Key)?;
    write_agreement(to, &protected, &ephemeral, &wrapped, into);
    Ok(())
}

/// Writes a recipient with the content key wrapped under a shared key.
pub(super) fn write_shared(
    id: KeyId,
    shared: &[u8; KEY_BYTES],
    key: &ContentKey,
    into: &mut Vec<u8>,
) -> Result<(), Refused> {
    let wrapped = wrapped(shared, key).ok_or(Refused::Key)?;
    write_plain(A256KW, id, &wrapped, into);
    Ok(())
}

/// A recipient without anything protected: key transport and key wrap authenticate nothing beside the key (RFC 9053, 6.2).
fn write_plain(algorithm: i64, id: KeyId, sealed: &[u8], into: &mut Vec<u8>) {
    cbor::array(into, 3);
    cbor::bytes(into, b"");
    cbor::map(into, 2);
    cbor::int(into, header::ALGORITHM);
    cbor::int(into, algorithm);
    cbor::int(into, header::KEY_ID);
    cbor::bytes(into, &id.0);
    cbor::bytes(into, sealed);
}

fn write_agreement(
    to: &PublicKey,
    protected: &[u8],
    ephemeral: &[u8],
    sealed: &[u8],
    into: &mut Vec<u8>,
) {
    cbor::array(into, 3);
    cbor::bytes(into, protected);
    cbor::map(into, 2);
    cbor::int(into, header::KEY_ID);
    cbor::bytes(into, &to.id().0);
    cbor::int(into, EPHEMERAL);
    let point: Option<&[u8; POINT_BYTES]> = ephemeral.try_into().ok();
    cbor::map(into, if point.is_some() { 4 } else { 3 });
    cbor::int(into, KEY_TYPE);
    if let Some(point) = point {
        let (x, y) = PublicMaterial::coordinates(point);
        cbor::int(into, EC2);
        cbor::int(into, CURVE);
        cbor::int(into, P256_CURVE);
        cbor::int(into, X);
        cbor::bytes(into, x);
        cbor::int(into, Y);
        cbor::bytes(into, y);
    } else {
        cbor::int(into, OKP);
        cbor::int(into, CURVE);
        cbor::int(into, X25519_CURVE);
        cbor::int(into, X);
        cbor::bytes(into, ephemeral);
    }
    cbor::bytes(into, sealed);
}

/// The content key of a recipient, for our private key.
pub(super) fn content_key_of(
    recipient: &CoseRecipient,
    private: &PrivateKey,
    content: i64,
) -> Option<ContentKey> {
    let sealed = recipient.ciphertext.as_deref()?;
    match algorithm_of(recipient)? {
        ECDH_ES_DIRECT if sealed.is_empty() => {
            let secret = agreed_with(recipient, private)?;
            let protected = recipient.protected.original_data.as_deref()?;
            Some(expanded(
                &*secret,
                &[],
                &context(content, KEY_BITS, protected),
            ))
        }
        ECDH_ES_A256KW => {
            let secret = agreed_with(recipient, private)?;
            let protected = recipient.protected.original_data.as_deref()?;
            let kek = expanded(&*secret, &[], &context(A256KW, KEY_BITS, protected));
            unwrapped(&kek, sealed)
        }
        RSA_OAEP_256 if recipient.protected.header.is_empty() => {
            let PrivateMaterial::Rsa { oaep, .. } = private.material() else {
                return None;
            };
            let mut buffer = Zeroizing::new(vec![0; oaep.min_output_size()]);
            let opened = oaep.decrypt(&OAEP_SHA256_MGF1SHA256, sealed, &mut buffer, None);
            copied(opened.ok()?)
        }
        _ => None,
    }
}

/// The content key that is wrapped under a shared key.
pub(super) fn unwrapped(kek: &[u8; KEY_BYTES], sealed: &[u8]) -> Option<ContentKey> {
    let mut buffer = Zeroizing::new([0; WRAPPED_BYTES]);
    let kek = AesKek::new(&AES_256, kek).ok()?;
    copied(kek.unwrap(sealed, &mut *buffer).ok()?)
}

fn copied(key: &[u8]) -> Option<ContentKey> {
    let mut copy = Zeroizing::new([0; KEY_BYTES]);
    if key.len() != copy.len() {
        return None;
    }
    copy.copy_from_slice(key);
    Some(copy)
}

fn wrapped(kek: &[u8; KEY_BYTES], key: &ContentKey) -> Option<[u8; WRAPPED_BYTES]> {
    let mut wrapped = [0; WRAPPED_BYTES];
    let kek = AesKek::new(&AES_256, kek).ok()?;
    let length = kek.wrap(&**key, &mut wrapped).ok()?.len();
    (length == wrapped.len()).then_some(wrapped)
}

/// `alg` of a recipient: protected for key agreement, beside an empty protected header for the others.
pub(super) fn algorithm_of(recipient: &CoseRecipient) -> Option<i64> {
    let protected = header::algorithm(&recipient.protected.header);
    protected.or_else(|| header::algorithm(&recipient.unprotected))
}

fn protected_of(algorithm: i64) -> Vec<u8> {
    let mut protected = Vec::with_capacity(8);
    cbor::map(&mut protected, 1);
    cbor::int(&mut protected, header::ALGORITHM);
    cbor::int(&mut protected, algorithm);
    protected
}

/// Of every key here.
const KEY_BITS: i64 = 256;

/// `COSE_KDF_Context` (RFC 9053, 5.2) of a key of so many bits for `algorithm`, both parties unnamed.
pub(super) fn context(algorithm: i64, bits: i64, protected: &[u8]) -> Vec<u8> {
    let mut context = Vec::with_capacity(protected.len() + 24);
    cbor::array(&mut context, 4);
    cbor::int(&mut context, algorithm);
    for _ in 0..2 {
        cbor::array(&mut context, 3);
        context.extend([NULL; 3]);
    }
    cbor::array(&mut context, 2);
    cbor::int(&mut context, bits);
    cbor::bytes(&mut context, protected);
    context
}

/// A secret agreed with a fresh key, and the public half of that key.
fn agreed(
    to: &PublicKey,
    random: &mut dyn Random,
) -> Result<(Zeroizing<[u8; COORDINATE_BYTES]>, Vec<u8>), Refused> {
    let (algorithm, public): (_, &[u8]) = match to.material() {
        PublicMaterial::P256(point) => (&ECDH_P256, point),
        PublicMaterial::X25519(key) => (&X25519, key),
        PublicMaterial::Ed25519(_) | PublicMaterial::Rsa { .. } => return Err(Refused::Key),
    };
    for _ in 0..DRAWS_MAX {
        let mut scalar = Zeroizing::new([0; COORDINATE_BYTES]);
        random.fill(&mut *scalar)?;
        let Ok(ephemeral) = agreement::PrivateKey::from_private_key(algorithm, &*scalar) else {
            continue;
        };
        let half = ephemeral.compute_public_key().map_err(|_| Refused::Key)?;
        let secret = secret_of(&ephemeral, UnparsedPublicKey::new(algorithm, public));
        return Ok((secret.ok_or(Refused::Key)?, half.as_ref().to_vec()));
    }
    Err(Refused::NoRandomness)
}

pub(super) fn agreed_with(
    recipient: &CoseRecipient,
    private: &PrivateKey,
) -> Option<Zeroizing<[u8; COORDINATE_BYTES]>> {
    let ephemeral = ephemeral_of(&recipient.protected.header)
        .or_else(|| ephemeral_of(&recipient.unprotected))?;
    match private.material() {
        PrivateMaterial::P256 { agreement, .. } if ephemeral.len() != COORDINATE_BYTES => {
            secret_of(agreement, UnparsedPublicKey::new(&ECDH_P256, ephemeral))
        }
        PrivateMaterial::X25519 { agreement, .. } if ephemeral.len() == COORDINATE_BYTES => {
            secret_of(agreement, UnparsedPublicKey::new(&X25519, ephemeral))
        }
        _ => None,
    }
}

pub(super) fn secret_of<B: AsRef<[u8]>>(
    ours: &agreement::PrivateKey,
    theirs: UnparsedPublicKey<B>,
) -> Option<Zeroizing<[u8; COORDINATE_BYTES]>> {
    agreement::agree(ours, theirs, (), |secret| copied(secret).ok_or(())).ok()
}

/// The sender's ephemeral key: a point of P-256, whole or compressed, or a key of Curve25519.
fn ephemeral_of(header: &Header) -> Option<Vec<u8>> {
    let key = header::value(header, EPHEMERAL)?.as_map()?;
    let member = |label: i64| {
        let label = Value::from(label);
        let found = key.iter().find(|(found, _)| *found == label);
        found.map(|(_, value)| value)
    };
    let is = |label, number: i64| member(label) == Some(&Value::from(number));
    let x = member(X)?
        .as_bytes()
        .filter(|x| x.len() == COORDINATE_BYTES)?;
    if is(KEY_TYPE, OKP) && is(CURVE, X25519_CURVE) {
        return Some(x.clone());
    }
    if !is(KEY_TYPE, EC2) || !is(CURVE, P256_CURVE) {
        return None;
    }
    match member(Y)? {
        Value::Bytes(y) if y.len() == COORDINATE_BYTES => Some([&[4], &x[..], y].concat()),
        Value::Bool(is_odd) => Some([&[2 + u8::from(*is_odd)], &x[..]].concat()),
        _ => None,
    }
}
