//! RSA keys as DER (RFC 8017, A.1; RFC 5208; RFC 5280), which is what AWS-LC takes and gives. Numbers only: no more of ASN.1
//! is here than three fixed shapes need.

use zeroize::Zeroizing;

const INTEGER: u8 = 2;
const BIT_STRING: u8 = 3;
const OCTET_STRING: u8 = 4;
const SEQUENCE: u8 = 0x30;

/// `rsaEncryption` with its NULL parameters.
const RSA_ENCRYPTION: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

/// The numbers of an `RSAPrivateKey`, most significant byte first and without zeros before it.
pub(super) struct RsaNumbers<'a> {
    pub(super) modulus: &'a [u8],
    pub(super) exponent: &'a [u8],
    /// d, p, q, dp, dq, qi.
    secret: [&'a [u8]; 6],
}

/// What JWK calls the secret numbers, in the order of `RSAPrivateKey`.
pub(super) const SECRET_NAMES: [&str; 6] = ["d", "p", "q", "dp", "dq", "qi"];

impl<'a> RsaNumbers<'a> {
    /// The numbers of an `RSAPrivateKey` of two primes.
    pub(super) fn of(numbers: &'a [u8]) -> Option<Self> {
        let (content, rest) = taken(numbers, SEQUENCE)?;
        let (version, mut content) = number(content)?;
        if !version.is_empty() || !rest.is_empty() {
            return None;
        }
        let mut all: [&[u8]; 8] = [&[]; 8];
        for slot in &mut all {
            let (one, rest) = number(content)?;
            (*slot, content) = (one, rest);
        }
        let [modulus, exponent, secret @ ..] = all;
        content.is_empty().then_some(Self {
            modulus,
            exponent,
            secret,
        })
    }

    /// The secret numbers with their names in a JWK.
    pub(super) fn secret(&self) -> impl Iterator<Item = (&'static str, &'a [u8])> + use<'a> {
        SECRET_NAMES.into_iter().zip(self.secret)
    }
}

/// An `RSAPrivateKey` of these numbers: modulus, exponent, then the secret ones.
pub(super) fn private_key(numbers: &[&[u8]; 8]) -> Zeroizing<Vec<u8>> {
    // Enough for all that is written, so that nothing is moved and left behind.
    let length = numbers.iter().map(|number| number.len() + 8).sum::<usize>();
    let mut content = Zeroizing::new(Vec::with_capacity(length + 3));
    write_number(&mut content, &[]);
    for number in numbers {
        write_number(&mut content, number);
    }
    wrapped(SEQUENCE, &content)
}

/// An `RSAPrivateKey` as PKCS #8.
pub(super) fn pkcs8(private_key: &[u8]) -> Zeroizing<Vec<u8>> {
    let key = wrapped(OCTET_STRING, private_key);
    let mut content = Zeroizing::new(Vec::with_capacity(key.len() + 32));
    write_number(&mut content, &[]);
    content.extend_from_slice(RSA_ENCRYPTION);
    content.extend_from_slice(&key);
    wrapped(SEQUENCE, &content)
}

/// The `RSAPrivateKey` within PKCS #8.
pub(super) fn numbers_of_pkcs8(pkcs8: &[u8]) -> Option<&[u8]> {
    let (content, _) = taken(pkcs8, SEQUENCE)?;
    let (_, content) = number(content)?;
    let content = content.strip_prefix(RSA_ENCRYPTION)?;
    taken(content, OCTET_STRING).map(|(key, _)| key)
}

/// A `SubjectPublicKeyInfo` of an RSA key.
pub(super) fn public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let mut numbers = Vec::new();
    write_number(&mut numbers, modulus);
    write_number(&mut numbers, exponent);
    let mut bits = vec![0];
    bits.extend_from_slice(&wrapped(SEQUENCE, &numbers));
    let mut content = RSA_ENCRYPTION.to_vec();
    content.extend_from_slice(&wrapped(BIT_STRING, &bits));
    wrapped(SEQUENCE, &content).to_vec()
}

/// The modulus and the exponent of a `SubjectPublicKeyInfo` of an RSA key.
pub(super) fn numbers_of_public_key(spki: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, after) = taken(spki, SEQUENCE)?;
    let (bits, end) = taken(content.strip_prefix(RSA_ENCRYPTION)?, BIT_STRING)?;
    let (numbers, rest) = taken(bits.strip_prefix(&[0])?, SEQUENCE)?;
    let (modulus, numbers) = number(numbers)?;
    let (exponent, numbers) = number(numbers)?;
    let is_whole = [after, end, rest, numbers]
        .iter()
        .all(|left| left.is_empty());
    is_whole.then_some((modulus, exponent))
}

fn write_number(into: &mut Vec<u8>, number: &[u8]) {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let (_, number) = number.split_at(zeros);
    // The first bit is the sign.
    let is_padded = number.first().is_none_or(|first| *first >= 0x80);
    write_head(into, INTEGER, number.len() + usize::from(is_padded));
    if is_padded {
        into.push(0);
    }
    into.extend_from_slice(number);
}

fn wrapped(tag: u8, content: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut into = Zeroizing::new(Vec::with_capacity(content.len() + 6));
    write_head(&mut into, tag, content.len());
    into.extend_from_slice(content);
    into
}

fn write_head(into: &mut Vec<u8>, tag: u8, length: usize) {
    into.push(tag);
    let bytes = length.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let significant = bytes.iter().skip(zeros).copied();
    if length >= 0x80 {
        // A length has at most 8 bytes.
        into.push(0x80 | u8::try_from(bytes.len() - zeros).unwrap_or(8));
    }
    if length == 0 {
        into.push(0);
    }
    into.extend(significant);
}

/// The content of the item that begins `bytes`, and what follows it.
fn taken(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], mut rest) = bytes.split_first_chunk()?;
    if found != tag {
        return None;
    }
    let length = if first < 0x80 {
        usize::from(first)
    } else {
        let (length, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        rest = after;
        // Three bytes are enough for every key.
        (length.len() <= 3).then(|| {
            length
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte))
        })?
    };
    rest.split_at_checked(length)
}

fn number(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, rest) = taken(bytes, INTEGER)?;
    let zeros = content.iter().take_while(|byte| **byte == 0).count();
    Some((content.split_at(zeros).1, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let long = [0x81; 300];
        let numbers: [&[u8]; 8] = [&long, &[1, 0, 1], &[0x7f], &[0x80], &[1], &[2], &[3], &[4]];
        let key = private_key(&numbers);
        let read = RsaNumbers::of(&key).unwrap();
        assert_eq!((read.modulus, read.exponent), (&long[..], &[1, 0, 1][..]));
        let secret: Vec<_> = read.secret().collect();
        assert_eq!(secret[1], ("p", &[0x80][..]));
        assert_eq!(numbers_of_pkcs8(&pkcs8(&key)), Some(&key[..]));
        let public = public_key(&long, &[1, 0, 1]);
        let expect = Some((&long[..], &[1, 0, 1][..]));
        assert_eq!(numbers_of_public_key(&public), expect);
        for length in 0..public.len() {
            assert_eq!(numbers_of_public_key(&public[..length]), None);
        }
        for length in 0..key.len() {
            assert!(RsaNumbers::of(&key[..length]).is_none(), "{length} bytes");
        }
    }
}
