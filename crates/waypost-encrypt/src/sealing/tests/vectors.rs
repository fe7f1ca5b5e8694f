//! Published tests, each with the verdict it states: Wycheproof's of the primitives as they are called here, and the examples
//! of COSE. tests/vectors/SOURCE.md says where they are from.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;

use aws_lc_rs::agreement::{self, ECDH_P256, UnparsedPublicKey, X25519};
use aws_lc_rs::hmac;
use aws_lc_rs::rsa::OAEP_SHA256_MGF1SHA256;
use serde_json::Value;

use super::super::aead::{Aead, ReadyAead};
use super::super::header::{self, Headers};
use super::super::structure::{self, Parts, sealed_parts};
use super::super::{block, open, recipient, sign};
use crate::key::expanded;
use crate::keys::{PrivateMaterial, PublicMaterial};
use crate::{Jwk, Key, Nonce, PrivateKey, PublicKey, Tag, find_at_rest};

fn read(path: &str) -> Value {
    let path = format!("{}/tests/vectors/{path}", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::File::open(&path).expect(&path);
    let mut text = String::new();
    let mut unpacked = flate2::read::GzDecoder::new(file);
    unpacked.read_to_string(&mut text).expect(&path);
    serde_json::from_str(&text).expect(&path)
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

fn hex(value: &Value) -> Vec<u8> {
    unhex(value.as_str().unwrap())
}

/// What a case states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stated {
    Valid,
    Invalid,
    /// Both are right.
    Acceptable,
}

/// Runs all cases of a file: `run` gives whether a case passes, `None` if it is none of ours. Gives how many were run.
fn wycheproof(file: &str, run: impl Fn(&Value, &Value) -> Option<bool>) -> usize {
    let cases = read(&format!("wycheproof/{file}_test.json.gz"));
    let mut count = 0;
    for group in cases["testGroups"].as_array().unwrap() {
        for case in group["tests"].as_array().unwrap() {
            let stated = match case["result"].as_str().unwrap() {
                "valid" => Stated::Valid,
                "invalid" => Stated::Invalid,
                _ => Stated::Acceptable,
            };
            let Some(passes) = run(group, case) else {
                continue;
            };
            let is_right = stated == Stated::Acceptable || passes == (stated == Stated::Valid);
            assert!(is_right, "{file} {}: {stated:?}, {passes}", case["tcId"]);
            count += 1;
        }
    }
    count
}

fn size(group: &Value, name: &str) -> u64 {
    group[name].as_u64().unwrap()
}

/// An authenticated cipher, as messages use it and as the disk does.
fn aead(file: &str, name: &str, forms: &[(u64, Aead)]) -> usize {
    wycheproof(file, |group, case| {
        if size(group, "keySize") != 256 || size(group, "tagSize") != 128 {
            return None;
        }
        let key: [u8; 32] = hex(&case["key"]).try_into().unwrap();
        let (iv, associated) = (hex(&case["iv"]), hex(&case["aad"]));
        let (text, sealed) = (hex(&case["msg"]), hex(&case["ct"]));
        // Those whose nonce no form takes have no tag either.
        let tag: [u8; 16] = hex(&case["tag"]).try_into().ok()?;
        let mut verdicts = Vec::new();
        let form = forms
            .iter()
            .find(|(bits, _)| *bits == size(group, "ivSize"));
        if let Some((_, form)) = form {
            let ready = ReadyAead::new(*form, &key).unwrap();
            let mut whole = [&sealed[..], &tag].concat();
            let opened = ready.open(&iv, &associated, &mut whole);
            verdicts.push(opened.is_some() && whole == text);
            if case["result"] == "valid" {
                let mut buffer = text.clone();
                let made = ready.seal(&iv, &associated, &mut buffer).unwrap();
                assert_eq!((made, buffer), (tag, sealed.clone()));
            }
        }
        if let Ok(nonce) = iv.try_into() {
            let at_work = (find_at_rest(name).unwrap().new)(&Key::new(key));
            let mut buffer = sealed;
            let opened = at_work.open_in_place(Nonce(nonce), &associated, &mut buffer, &Tag(tag));
            verdicts.push(opened.is_ok() && buffer == text);
        }
        verdicts.dedup();
        assert!(verdicts.len() < 2, "both forms agree");
        verdicts.pop()
    })
}

#[test]
fn wycheproof_aes_gcm() {
    assert_eq!(aead("aes_gcm", "aes-gcm", &[(96, Aead::AesGcm)]), 66);
}

#[test]
fn wycheproof_chacha20_poly1305() {
    let forms = [(96, Aead::ChaCha20Poly1305)];
    assert_eq!(aead("chacha20_poly1305", "chacha20-poly1305", &forms), 316);
}

#[test]
fn wycheproof_aes_ccm() {
    let forms = [(104, Aead::CcmShort), (56, Aead::CcmLong)];
    assert_eq!(aead("aes_ccm", "aes-ccm", &forms), 90);
}

#[test]
fn wycheproof_hkdf() {
    // Keys here have 32 bytes; those of a longer output begin with the same 32.
    let count = wycheproof("hkdf_sha256", |_, case| {
        let okm = hex(&case["okm"]);
        if case["result"] != "valid" {
            return None;
        }
        let made = expanded(&hex(&case["ikm"]), &hex(&case["salt"]), &hex(&case["info"]));
        let count = okm.len().min(made.len());
        Some(made[..count] == okm[..count])
    });
    assert_eq!(count, 83);
}

#[test]
fn wycheproof_hmac() {
    let count = wycheproof("hmac_sha256", |group, case| {
        if size(group, "tagSize") != 256 {
            return None;
        }
        let (key, text, tag) = (hex(&case["key"]), hex(&case["msg"]), hex(&case["tag"]));
        if let Ok(key) = <[u8; 32]>::try_from(&key[..]) {
            let is_right = Key::new(key).hash(&text)[..] == tag[..];
            assert_eq!(is_right, case["result"] == "valid");
        }
        let made = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &text);
        Some(made.as_ref() == tag)
    });
    assert_eq!(count, 87);
}

/// A secret of 32 bytes, however many digits it was written with.
fn scalar(value: &Value) -> [u8; 32] {
    let given = hex(value);
    let mut scalar = [0; 32];
    for (byte, given) in scalar.iter_mut().rev().zip(given.iter().rev()) {
        *byte = *given;
    }
    scalar
}

#[test]
fn wycheproof_ecdh() {
    let count = wycheproof("ecdh_secp256r1_ecpoint", |_, case| {
        let ours = scalar(&case["private"]);
        let ours = agreement::PrivateKey::from_private_key(&ECDH_P256, &ours).unwrap();
        let theirs = UnparsedPublicKey::new(&ECDH_P256, hex(&case["public"]));
        let secret = recipient::secret_of(&ours, theirs);
        Some(secret.is_some_and(|secret| secret[..] == hex(&case["shared"])))
    });
    assert_eq!(count, 355);
}

#[test]
fn wycheproof_x25519() {
    let count = wycheproof("x25519", |_, case| {
        let ours: [u8; 32] = hex(&case["private"]).try_into().unwrap();
        let ours = agreement::PrivateKey::from_private_key(&X25519, &ours).unwrap();
        let theirs = UnparsedPublicKey::new(&X25519, hex(&case["public"]));
        let secret = recipient::secret_of(&ours, theirs);
        // What is agreed is right, or nothing is: a secret of zeros is refused.
        let is_right = secret
            .as_ref()
            .is_none_or(|secret| secret[..] == hex(&case["shared"]));
        assert!(is_right, "{}", case["tcId"]);
        Some(secret.is_some())
    });
    assert_eq!(count, 518);
}

#[test]
fn wycheproof_ecdsa() {
    let count = wycheproof("ecdsa_secp256r1_sha256_p1363", |group, case| {
        let point = hex(&group["publicKey"]["uncompressed"]);
        let key = PublicKey::new(PublicMaterial::P256(point.try_into().unwrap())).unwrap();
        Some(sign::is_right(&key, &hex(&case["msg"]), &hex(&case["sig"])))
    });
    assert_eq!(count, 262);
}

#[test]
fn wycheproof_ed25519() {
    let count = wycheproof("ed25519", |group, case| {
        let key = hex(&group["publicKey"]["pk"]);
        let key = PublicKey::new(PublicMaterial::Ed25519(key.try_into().unwrap())).unwrap();
        Some(sign::is_right(&key, &hex(&case["msg"]), &hex(&case["sig"])))
    });
    assert_eq!(count, 151);
}

fn pair(jwk: &Value) -> Option<PrivateKey> {
    match Jwk::decode(jwk.to_string().as_bytes()) {
        Ok(Jwk::Private(key)) => Some(key),
        _ => None,
    }
}

#[test]
fn wycheproof_rsa_oaep() {
    let count = wycheproof("rsa_oaep_2048_sha256_mgf1sha256", |group, case| {
        let key = pair(&group["privateKeyJwk"]).unwrap();
        let PrivateMaterial::Rsa { oaep, .. } = key.material() else {
            panic!("no RSA key");
        };
        let mut buffer = vec![0; oaep.min_output_size()];
        let label = hex(&case["label"]);
        let label = Some(&label[..]).filter(|label| !label.is_empty());
        let opened = oaep.decrypt(
            &OAEP_SHA256_MGF1SHA256,
            &hex(&case["ct"]),
            &mut buffer,
            label,
        );
        Some(opened.is_ok_and(|opened| *opened == hex(&case["msg"])))
    });
    assert_eq!(count, 37);
}

/// Why an example is not run, or whether it gives what it states.
type Verdict = Result<bool, &'static str>;

#[test]
fn the_examples_of_cose_give_the_verdicts_they_state() {
    let examples = read("cose/examples.json.gz");
    let mut list = String::from(
        "# Examples of COSE that are not run\n\nWritten by `RENEW_DOCS=1 cargo test -p waypost-encrypt cose`.\n\n\
         | example | why |\n| --- | --- |\n",
    );
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, example) in examples.as_object().unwrap() {
        let input = &example["input"];
        let payload = hex(&example["output"]["cbor"]);
        let verdict = if input.get("sign0").is_some() {
            sign0(&input["sign0"], &payload)
        } else if input.get("encrypted").is_some() {
            encrypted(&input["encrypted"], &payload, input)
        } else if input.get("enveloped").is_some() {
            enveloped(&input["enveloped"], &payload, input)
        } else if input.get("mac0").is_some() {
            mac0(&input["mac0"], &payload)
        } else {
            Err("COSE_Sign and COSE_Mac, with signers and recipients apart, are not of the profile")
        };
        match verdict {
            Ok(passes) => {
                let expect = example.get("fail") != Some(&Value::Bool(true));
                assert_eq!(passes, expect, "{name}");
                *counts.entry("run").or_default() += 1;
            }
            Err(reason) => {
                *counts.entry("not run").or_default() += 1;
                let _ = writeln!(list, "| `{name}` | {reason} |");
            }
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/cose/NOT-RUN.md");
    if std::env::var_os("RENEW_DOCS").is_some() {
        std::fs::write(path, &list).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), list);
    assert_eq!((counts["run"], counts["not run"]), (66, 58));
}

const UNTAGGED: &str = "it has no tag, which the profile wants";
const UNPROTECTED: &str =
    "its alg stands in the unprotected header, which the profile does not trust";

/// Bytes as JOSE writes them; one example's last letter has bits to spare.
fn unbase64(text: &Value) -> Vec<u8> {
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    use base64::{Engine as _, alphabet};
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone);
    let engine = GeneralPurpose::new(&alphabet::URL_SAFE, config);
    engine.decode(text.as_str().unwrap()).unwrap()
}

fn key_of(input: &Value) -> Vec<u8> {
    unbase64(&input["recipients"][0]["key"]["k"])
}

/// A private key of an example, whose members are in hex or as in a JWK.
fn private_of(key: &Value) -> Option<PrivateKey> {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let encoded = |value: &Value| Value::from(engine.encode(hex(value)));
    let mut jwk = serde_json::Map::new();
    for (name, value) in key.as_object().unwrap() {
        match name.strip_suffix("_hex") {
            Some("dP") => jwk.insert("dp".into(), encoded(value)),
            Some("dQ") => jwk.insert("dq".into(), encoded(value)),
            Some(name) => jwk.insert(name.into(), encoded(value)),
            None => jwk.insert(name.clone(), value.clone()),
        };
    }
    pair(&jwk.into())
}

fn external_of(input: &Value) -> Vec<u8> {
    input.get("external").map(hex).unwrap_or_default()
}

/// What cannot be run whatever else it has.
fn refused(input: &Value, payload: &[u8]) -> Result<(), &'static str> {
    // 0xC0 to 0xDF are tags.
    if payload.first().is_some_and(|first| first >> 5 != 6) {
        return Err(UNTAGGED);
    }
    if input["protected"].get("alg").is_none() {
        return Err(UNPROTECTED);
    }
    Ok(())
}

fn sign0(input: &Value, payload: &[u8]) -> Verdict {
    if !["ES256", "EdDSA"].contains(&input["alg"].as_str().unwrap()) {
        return Err("ES384 and ES512 are not of the profile");
    }
    if input["key"]["crv"] == "Ed448" || input["key"]["crv"] == "P-521" {
        return Err("Ed448 and P-521 are not of the profile");
    }
    refused(input, payload)?;
    let key = private_of(&input["key"]).ok_or("its key is of a kind that is not of the profile")?;
    let external = external_of(input);
    let opened =
        sign::Signed::decoded(payload).and_then(|signed| signed.verified(key.public(), &external));
    Ok(opened.is_some_and(|(_, text)| text == b"This is the content."))
}

/// The cipher of an example: one of the profile, or one that differs from one in the lengths of key and tag alone, which nothing
/// but this test opens. What is around it, the envelope, is read as any other.
struct Cipher {
    number: i64,
    key_bytes: usize,
    open: Open,
}

/// Opens with a key, an IV and what is authenticated beside the text.
type Open = fn(&[u8], &[u8], &[u8], &mut Vec<u8>) -> Option<()>;

fn of_profile(
    number: i64,
    key: &[u8],
    iv: &[u8],
    associated: &[u8],
    text: &mut Vec<u8>,
) -> Option<()> {
    let ready = ReadyAead::new(Aead::of(number)?, key.try_into().ok()?)?;
    ready.open(iv, associated, text)
}

fn gcm(
    algorithm: &'static aws_lc_rs::aead::Algorithm,
    key: &[u8],
    iv: &[u8],
    associated: &[u8],
    text: &mut Vec<u8>,
) -> Option<()> {
    use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey};
    let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
    let nonce = Nonce::try_assume_unique_for_key(iv).ok()?;
    let opened = key.open_in_place(nonce, Aad::from(associated), text);
    let length = opened.ok()?.len();
    text.truncate(length);
    Some(())
}

fn ccm<A: ccm::aead::AeadInOut + ccm::aead::KeyInit>(
    key: &[u8],
    iv: &[u8],
    associated: &[u8],
    text: &mut Vec<u8>,
) -> Option<()> {
    use ccm::aead::array::typenum::Unsigned;
    let cipher = A::new_from_slice(key).ok()?;
    let nonce = ccm::aead::Nonce::<A>::try_from(iv).ok()?;
    let length = text.len().checked_sub(<A::TagSize as Unsigned>::USIZE)?;
    let (sealed, tag) = text.split_at_mut(length);
    let tag = ccm::aead::Tag::<A>::try_from(&*tag).ok()?;
    cipher
        .decrypt_inout_detached(&nonce, associated, sealed.into(), &tag)
        .ok()?;
    text.truncate(length);
    Some(())
}

fn cipher_of(input: &Value) -> Result<Cipher, &'static str> {
    use aes::{Aes128, Aes256};
    use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM};
    use ccm::Ccm;
    use ccm::consts::{U7, U8, U13, U16};

    let (number, key_bytes, open): (_, _, Open) = match input["protected"]["alg"].as_str() {
        Some("A128GCM") => (1, 16, |key, iv, more, text| {
            gcm(&AES_128_GCM, key, iv, more, text)
        }),
        Some("A192GCM") => (2, 24, |key, iv, more, text| {
            gcm(&AES_192_GCM, key, iv, more, text)
        }),
        Some("A256GCM") => (3, 32, |key, iv, more, text| {
            of_profile(3, key, iv, more, text)
        }),
        Some("ChaCha-Poly1305") => (24, 32, |key, iv, more, text| {
            of_profile(24, key, iv, more, text)
        }),
        Some("AES-CCM-16-256/128") => (31, 32, |key, iv, more, text| {
            of_profile(31, key, iv, more, text)
        }),
        Some("AES-CCM-64-256/128") => (33, 32, |key, iv, more, text| {
            of_profile(33, key, iv, more, text)
        }),
        Some("AES-CCM-16-128/64") => (10, 16, ccm::<Ccm<Aes128, U8, U13>>),
        Some("AES-CCM-16-256/64") => (11, 32, ccm::<Ccm<Aes256, U8, U13>>),
        Some("AES-CCM-64-128/64") => (12, 16, ccm::<Ccm<Aes128, U8, U7>>),
        Some("AES-CCM-64-256/64") => (13, 32, ccm::<Ccm<Aes256, U8, U7>>),
        Some("AES-CCM-16-128/128") => (30, 16, ccm::<Ccm<Aes128, U16, U13>>),
        Some("AES-CCM-64-128/128") => (32, 16, ccm::<Ccm<Aes128, U16, U7>>),
        _ => return Err("its cipher is not of the profile"),
    };
    Ok(Cipher {
        number,
        key_bytes,
        open,
    })
}

/// The content of an envelope whose key is known.
fn content(
    cipher: &Cipher,
    key: &[u8],
    context: &str,
    parts: &Parts<'_>,
    (input, all): (&Value, &Value),
) -> Verdict {
    let Some(headers) = Headers::of(parts) else {
        return Ok(false);
    };
    if !headers.unprotected.partial_iv.is_empty() {
        return Err("Partial IV is not of the profile");
    }
    if header::algorithm(&headers.protected) != Some(cipher.number) {
        return Ok(false);
    }
    let associated = header::associated(context, headers.encoded, &external_of(input));
    let mut text = parts.content.to_vec();
    let opened = (cipher.open)(key, &headers.unprotected.iv, &associated, &mut text);
    Ok(opened.is_some() && text == all["plaintext"].as_str().unwrap().as_bytes())
}

fn encrypted(input: &Value, payload: &[u8], all: &Value) -> Verdict {
    refused(input, payload)?;
    let cipher = cipher_of(input)?;
    match sealed_parts(payload) {
        Ok(parts) if parts.tag == structure::ENCRYPT0 => {
            let key = key_of(input);
            content(&cipher, &key, header::ENCRYPT0, &parts, (input, all))
        }
        _ => Ok(false),
    }
}

fn enveloped(input: &Value, payload: &[u8], all: &Value) -> Verdict {
    refused(input, payload)?;
    let cipher = cipher_of(input)?;
    let given = &input["recipients"][0];
    if given.get("recipients").is_some() {
        return Err("recipients of a recipient are not of the profile");
    }
    let Ok(parts) = sealed_parts(payload) else {
        return Ok(false);
    };
    let recipients = open::recipients(parts.last).ok_or("coset does not read it")?;
    let [one] = recipients.as_slice() else {
        return Err("several recipients of one example");
    };
    let sealed = one.ciphertext.as_deref().unwrap_or_default();
    let key = match recipient::algorithm_of(one) {
        // `direct`: the content's key is the shared one. The profile has COSE_Encrypt0 for that; the content is the same.
        Some(-6) => Some(key_of(input)),
        Some(-10) => return Err("HKDF of a shared key is not of the profile"),
        Some(recipient::ECDH_ES_DIRECT) => {
            let ours = private_of(&given["key"]).ok_or("P-521 is not of the profile")?;
            agreed(&cipher, one, &ours)
        }
        Some(recipient::RSA_OAEP_256) => {
            let ours = private_of(&given["key"]).ok_or("its RSA key is not read")?;
            let PrivateMaterial::Rsa { oaep, .. } = ours.material() else {
                panic!("no RSA key");
            };
            let mut buffer = vec![0; oaep.min_output_size()];
            let opened = oaep.decrypt(&OAEP_SHA256_MGF1SHA256, sealed, &mut buffer, None);
            opened.ok().map(|key| key.to_vec())
        }
        Some(-43..=-42 | -40) => return Err("RSA-OAEP with other hashes is not of the profile"),
        _ => return Err("HKDF-SHA-512 and static-static ECDH are not of the profile"),
    };
    let Some(key) = key.filter(|key| key.len() == cipher.key_bytes) else {
        return Ok(false);
    };
    content(&cipher, &key, header::ENCRYPT, &parts, (input, all))
}

/// The content key that is agreed on: as `recipient` makes it, for a key of the profile's length and for a shorter one.
fn agreed(cipher: &Cipher, one: &coset::CoseRecipient, ours: &PrivateKey) -> Option<Vec<u8>> {
    if cipher.key_bytes == 32 {
        let key = recipient::content_key_of(one, ours, cipher.number)?;
        return Some(key.to_vec());
    }
    let secret = recipient::agreed_with(one, ours)?;
    let protected = one.protected.original_data.as_deref()?;
    let bits = i64::try_from(8 * cipher.key_bytes).ok()?;
    let context = recipient::context(cipher.number, bits, protected);
    Some(expanded(&*secret, &[], &context)[..cipher.key_bytes].to_vec())
}

fn mac0(input: &Value, payload: &[u8]) -> Verdict {
    if input["alg"] != "HS256" {
        return Err("CBC-MAC is not of the profile");
    }
    refused(input, payload)?;
    let parts = match sealed_parts(payload) {
        Ok(parts) if parts.tag == structure::MAC0 => parts,
        _ => return Ok(false),
    };
    let Some(headers) = Headers::of(&parts) else {
        return Ok(false);
    };
    if header::algorithm(&headers.protected) != Some(block::HMAC_256) {
        return Ok(false);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key_of(input));
    let made = block::authenticated(&key, headers.encoded, parts.content);
    Ok(made.as_ref() == parts.last)
}
