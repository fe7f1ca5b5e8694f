#!/usr/bin/env python3
"""Seals and opens messages as docs/sealing-format.md has them: COSE, AES-GCM, P-256, signed by ES256 or by nobody.

    (umask 077; sealing.py new > NAME.private.json)
                                                   a key to be sealed for and one to sign with, for nobody else to read
    sealing.py public NAME.private.json > NAME.json
    sealing.py pub TOPIC TEXT --seal-for bob.json [--seal-for …] [--sign-as ann.private.json]
    sealing.py sub FILTER --key bob.private.json [--trust ann.json …]

Keys are JWK (RFC 7517) or sets of them, as `waypost keys export NAME` prints them; a trusted one is known by its file's
name. Needs what requirements.txt lists.
"""

import argparse
import base64
import collections
import hashlib
import json
import os
import pathlib
import sys
import zlib
from typing import NamedTuple

import cbor2
import paho.mqtt.client as mqtt
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

ENCRYPT0, SIGN1, ENCRYPT = 16, 18, 96
ALG, KID, IV, EPHEMERAL = 1, 4, 5, -1
TOPIC, MESSAGE_ID, CONTENT_ENCODING, SIGNER, RECIPIENTS = -65537, -65538, -65539, -65540, -65541
A256GCM, A256KW, ES256, ECDH_ES, ECDH_ES_A256KW = 3, -5, -7, -25, -31

# What a message may come to when it is unpacked: beyond it, it is taken for a bomb.
UNPACKED_BYTES_MAX = 16 * 1024 * 1024
# How many messages are remembered, so that one that comes again is seen.
REMEMBERED_MAX = 10_000


class Refused(Exception):
    """Why a message was not opened."""


class Key(NamedTuple):
    """One key of a file: its id, its JWK, and the name it is known by."""

    id: bytes
    jwk: dict
    name: str

    @property
    def use(self):
        return "shared" if self.jwk["kty"] == "oct" else self.jwk.get("use", "enc")

    def shared(self):
        return AESGCM(decode64(self.jwk["k"]))

    def public(self):
        return ec.EllipticCurvePublicNumbers(*self.point(), ec.SECP256R1()).public_key()

    def private(self):
        number = int.from_bytes(decode64(self.jwk["d"]))
        return ec.EllipticCurvePrivateNumbers(number, self.public().public_numbers()).private_key()

    def point(self):
        return [int.from_bytes(decode64(self.jwk[coordinate])) for coordinate in "xy"]


def decode64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encode64(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def read_keys(path):
    """The keys of a file: one JWK, or a set of them."""
    try:
        parsed = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        keys = []
        for jwk in parsed.get("keys", [parsed]):
            members = {"EC": ["crv", "kty", "x", "y"], "oct": ["k", "kty"]}.get(jwk["kty"])
            if members is None or jwk.get("crv", "P-256") != "P-256":
                raise SystemExit(f"{path}: a key this program does not know; it knows P-256 and shared keys")
            thumbprint = json.dumps({member: jwk[member] for member in members}, separators=(",", ":"))
            key_id = hashlib.sha256(thumbprint.encode()).digest()[:8]
            keys.append(Key(key_id, jwk, pathlib.Path(path).name.split(".")[0]))
        return keys
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, LookupError, AttributeError):
        raise SystemExit(f"{path}: not a key, nor a set of them, as `waypost keys export` prints") from None


def private_keys(path):
    """The same, of a file that has them whole: the public half opens and signs nothing."""
    keys = read_keys(path)
    if not any("d" in key.jwk or key.use == "shared" for key in keys):
        raise SystemExit(f"{path}: public keys open and sign nothing; this is for private ones")
    return keys


def find_key(keys, path, *uses):
    for key in keys:
        if key.use in uses:
            return key
    raise SystemExit(f"{path}: no key there that is for {' or '.join(uses)}")


def new_keys():
    """A set of two private keys, for sealing and for signing."""
    keys = []
    for use in ("enc", "sig"):
        numbers = ec.generate_private_key(ec.SECP256R1()).private_numbers()
        point = numbers.public_numbers
        x, y, d = (encode64(number.to_bytes(32)) for number in (point.x, point.y, numbers.private_value))
        keys.append({"kty": "EC", "crv": "P-256", "x": x, "y": y, "d": d, "use": use})
    return {"keys": keys}


def public_keys(path):
    keys = [key.jwk for key in read_keys(path) if key.use != "shared"]
    return {"keys": [{name: value for name, value in jwk.items() if name != "d"} for jwk in keys]}


def encode(value):
    return cbor2.dumps(value, canonical=True)


def derive(private, public, algorithm, header):
    """ECDH, then HKDF-SHA-256 over the context of RFC 9053 §5.2."""
    info = encode([algorithm, [None] * 3, [None] * 3, [256, header]])
    shared = private.exchange(ec.ECDH(), public)
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(shared)


def agree(recipient, agreement, algorithm):
    """A key for `recipient` from a pair made for this message alone, whose public half goes along."""
    pair = ec.generate_private_key(ec.SECP256R1())
    header = encode({ALG: agreement})
    point = pair.public_key().public_numbers()
    ephemeral = {1: 2, -1: 1, -2: point.x.to_bytes(32), -3: point.y.to_bytes(32)}
    return derive(pair, recipient.public(), algorithm, header), header, {EPHEMERAL: ephemeral, KID: recipient.id}


def seal(message, topic, recipients, signer=None):
    """Seals bytes for the topic on which the receivers will see them."""
    message_id, iv = os.urandom(16), os.urandom(12)
    common = {TOPIC: topic, MESSAGE_ID: message_id}
    header = {ALG: A256GCM, **common}
    plaintext = message
    if signer is not None:
        header[SIGNER] = signer.id
        ids = [recipient.id for recipient in recipients]
        inner = encode({ALG: ES256, KID: signer.id, **common, RECIPIENTS: ids})
        to_sign = encode(["Signature1", inner, b"", message])
        pair = utils.decode_dss_signature(signer.private().sign(to_sign, ec.ECDSA(hashes.SHA256())))
        signature = b"".join(number.to_bytes(32) for number in pair)
        plaintext = encode(cbor2.CBORTag(SIGN1, [inner, {}, message, signature]))
    outer = encode(header)
    shared = [recipient for recipient in recipients if recipient.use == "shared"]
    if shared:
        if len(recipients) != 1:
            raise SystemExit("a shared key is for one message alone, without other receivers")
        ciphertext = shared[0].shared().encrypt(iv, plaintext, encode(["Encrypt0", outer, b""]))
        return encode(cbor2.CBORTag(ENCRYPT0, [outer, {KID: shared[0].id, IV: iv}, ciphertext]))
    if len(recipients) == 1:
        key, *recipient = agree(recipients[0], ECDH_ES, A256GCM)
        structures = [[*recipient, b""]]
    else:
        key, structures = os.urandom(32), []
        for recipient in recipients:
            wrapping, *rest = agree(recipient, ECDH_ES_A256KW, A256KW)
            structures.append([*rest, aes_key_wrap(wrapping, key)])
    ciphertext = AESGCM(key).encrypt(iv, plaintext, encode(["Encrypt", outer, b""]))
    return encode(cbor2.CBORTag(ENCRYPT, [outer, {IV: iv}, ciphertext, structures]))


class Opener:
    """Opens messages with some keys, each once."""

    def __init__(self, own, trusted):
        self.own = {key.id: key for key in own if key.use != "sig"}
        self.trusted = {key.id: key for key in trusted if key.use == "sig"}
        self.seen = collections.OrderedDict()

    def open(self, payload, topic):
        """Gives the message and the name of its signer, None when nobody signed."""
        try:
            return self.open_envelope(cbor2.loads(payload), topic)
        except (InvalidTag, InvalidUnwrap):
            raise Refused("it does not open: another key, or it was changed") from None
        except InvalidSignature:
            raise Refused("its signature is not right") from None
        except (ValueError, TypeError, LookupError, AttributeError, zlib.error, cbor2.CBORDecodeError) as error:
            raise Refused(f"it is not sealed as this program knows it ({error})") from None

    def open_envelope(self, envelope, topic):
        tag, parts = envelope.tag, envelope.value
        if tag not in (ENCRYPT0, ENCRYPT):
            raise Refused(f"it is sealed in a way this program does not know (COSE tag {tag})")
        outer, unprotected, ciphertext = parts[:3]
        header = cbor2.loads(outer)
        if header[ALG] != A256GCM:
            raise Refused(f"it is sealed with algorithm {header[ALG]}; this program knows A256GCM")
        structures = parts[3] if tag == ENCRYPT else [[None, unprotected, None]]
        ids = [recipient[1][KID] for recipient in structures]
        index = next((index for index, key_id in enumerate(ids) if key_id in self.own), None)
        if index is None:
            raise Refused(f"it is for {', '.join(key_id.hex() for key_id in ids)}, and none of these keys is here")
        key = self.own[ids[index]]
        cipher = key.shared() if tag == ENCRYPT0 else AESGCM(content_key(key, structures, index))
        context = "Encrypt0" if tag == ENCRYPT0 else "Encrypt"
        message = cipher.decrypt(unprotected[IV], ciphertext, encode([context, outer, b""]))
        if header[TOPIC] != topic:
            raise Refused(f"it was sealed for the topic {header[TOPIC]}, and came on {topic}")
        signer = None
        if SIGNER in header:
            message, signer = self.verify(message, header, ids)
        self.once((signer and signer.id, header[MESSAGE_ID]))
        return unpack(message, header.get(CONTENT_ENCODING, "identity")), signer and signer.name

    def verify(self, plaintext, outer, ids):
        """What is signed has to be what was sealed: the same topic, message and receivers."""
        signed = cbor2.loads(plaintext)
        if signed.tag != SIGN1:
            raise Refused("it names a signer, and is not signed")
        inner, _, message, signature = signed.value
        header = cbor2.loads(inner)
        signer = self.trusted.get(header[KID])
        if signer is None:
            raise Refused(f"it is signed with {header[KID].hex()}, a key that is not trusted here")
        expected = {ALG: ES256, KID: outer[SIGNER], TOPIC: outer[TOPIC], MESSAGE_ID: outer[MESSAGE_ID], RECIPIENTS: ids}
        if header != expected or len(signature) != 64:
            raise InvalidSignature
        pair = utils.encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
        to_verify = encode(["Signature1", inner, b"", message])
        signer.public().verify(pair, to_verify, ec.ECDSA(hashes.SHA256()))
        return message, signer

    def once(self, message):
        if message in self.seen:
            raise Refused("it came before: somebody sent it again")
        self.seen[message] = None
        if len(self.seen) > REMEMBERED_MAX:
            self.seen.popitem(last=False)


def content_key(key, structures, index):
    """What the content is sealed with, by the recipient that is ours."""
    header, unprotected, wrapped = structures[index]
    agreement = cbor2.loads(header)[ALG]
    point = unprotected[EPHEMERAL]
    if point.get(1) != 2 or point.get(-1) != 1:
        raise Refused("its ephemeral key is not of P-256")
    numbers = (int.from_bytes(point[coordinate]) for coordinate in (-2, -3))
    ephemeral = ec.EllipticCurvePublicNumbers(*numbers, ec.SECP256R1()).public_key()
    if agreement == ECDH_ES and len(structures) == 1 and wrapped == b"":
        return derive(key.private(), ephemeral, A256GCM, header)
    if agreement != ECDH_ES_A256KW:
        raise Refused(f"its key is wrapped by algorithm {agreement}; this program knows ECDH")
    return aes_key_unwrap(derive(key.private(), ephemeral, A256KW, header), wrapped)


def unpack(message, encoding):
    if encoding == "identity":
        return message
    if encoding != "deflate":
        raise Refused(f"it is packed with {encoding}; this program knows deflate")
    unpacking = zlib.decompressobj()
    unpacked = unpacking.decompress(message, UNPACKED_BYTES_MAX)
    if unpacking.unconsumed_tail:
        raise Refused(f"unpacked it is longer than {UNPACKED_BYTES_MAX} bytes")
    if not unpacking.eof:
        raise Refused("what it is packed in ends too early")
    return unpacked


def publish(options):
    recipients = [find_key(read_keys(path), path, "enc", "shared") for path in options.seal_for]
    signer = options.sign_as and find_key(private_keys(options.sign_as), options.sign_as, "sig")
    sealed = seal(options.text.encode(), options.topic, recipients, signer)
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "application/cose"
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.connect(options.host, options.port)
    client.loop_start()
    client.publish(options.topic, sealed, qos=1, properties=properties).wait_for_publish(15)
    client.disconnect()


def subscribe(options):
    own = [key for path in options.key for key in private_keys(path)]
    opener = Opener(own, own + [key for path in options.trust for key in read_keys(path)])

    def show(_client, _userdata, message):
        try:
            text, sender = opener.open(message.payload, message.topic)
        except Refused as reason:
            print(f"{message.topic}: not opened: {reason}", flush=True)
            return
        signed = f"signed by {sender}" if sender else "sender unknown"
        print(f"{message.topic}: {text.decode(errors='replace')} ({signed})", flush=True)

    def granted(client, _userdata, _packet_id, reasons, _properties):
        if reasons[0].is_failure:
            client.disconnect()
            sys.exit(f"the server does not let us read {options.filter}: {reasons[0]}")
        print(f"reading {options.filter}", file=sys.stderr, flush=True)

    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_connect = lambda *_: client.subscribe(options.filter, qos=1)
    client.on_subscribe = granted
    client.on_message = show
    client.connect(options.host, options.port)
    client.loop_forever()


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("new")
    public = commands.add_parser("public")
    public.add_argument("file")
    pub = commands.add_parser("pub")
    pub.add_argument("topic")
    pub.add_argument("text")
    pub.add_argument("--seal-for", action="append", required=True, metavar="FILE")
    pub.add_argument("--sign-as", metavar="FILE")
    sub = commands.add_parser("sub")
    sub.add_argument("filter")
    sub.add_argument("--key", action="append", required=True, metavar="FILE")
    sub.add_argument("--trust", action="append", default=[], metavar="FILE")
    options = parser.parse_args()
    match options.command:
        case "new":
            print(json.dumps(new_keys(), indent=2))
        case "public":
            print(json.dumps(public_keys(options.file), indent=2))
        case "pub":
            publish(options)
        case "sub":
            subscribe(options)


if __name__ == "__main__":
    main()
