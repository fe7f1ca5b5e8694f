"""Opens what others sealed, with pycose, which knows COSE and nothing of Waypost.

    sealed_reader.py --port N FILTER --key bob.private.json [--trust ann.json ...]

Every structure, context and header is pycose's own reading of RFC 9052. By hand is what it does not know: Waypost's labels, the
CBC of RFC 9459, and the exchange on X25519; the context of that is pycose's again.
"""

import argparse
import base64
import collections.abc
import hashlib
import json
import pathlib

import cbor2
import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms as ciphers, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from paho.mqtt.enums import CallbackAPIVersion
from pycose import headers
from pycose.algorithms import A256KW, EcdhEsHKDF256, RsaesOaepSha256
from pycose.exceptions import CoseException
from pycose.keys import EC2Key, OKPKey, RSAKey, SymmetricKey
from pycose.messages import Enc0Message, EncMessage, Mac0Message, Sign1Message
from pycose.messages.enccommon import EncCommon

TOPIC, MESSAGE_ID, SIGNER, RECIPIENTS = -65537, -65538, -65540, -65541
THUMBPRINTS = {"EC": ["crv", "kty", "x", "y"], "OKP": ["crv", "kty", "x"], "RSA": ["e", "kty", "n"], "oct": ["k", "kty"]}
RSA_MEMBERS = {"n": "n", "e": "e", "d": "d", "p": "p", "q": "q", "dp": "dp", "dq": "dq", "qinv": "qi"}
CURVES = {"P-256": "P_256", "X25519": "X25519", "Ed25519": "ED25519"}
A256CBC = -65529


def read_keys(paths):
    """The keys of files as COSE keys, by id, each with the name of its file."""
    keys = {}
    for path in map(pathlib.Path, paths):
        for jwk in json.loads(path.read_text(encoding="utf-8"))["keys"]:
            thumbprint = json.dumps({name: jwk[name] for name in THUMBPRINTS[jwk["kty"]]}, separators=(",", ":"))
            key_id = hashlib.sha256(thumbprint.encode()).digest()[:8]
            keys[key_id] = (cose_key(jwk), path.name.split(".")[0])
    return keys


def cose_key(jwk):
    def number(name):
        text = jwk.get(name, "")
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    match jwk["kty"]:
        case "EC":
            return EC2Key(crv=CURVES[jwk["crv"]], x=number("x"), y=number("y"), d=number("d"))
        case "OKP":
            return OKPKey(crv=CURVES[jwk["crv"]], x=number("x"), d=number("d"))
        case "RSA":
            return RSAKey(**{name: number(member) for name, member in RSA_MEMBERS.items()})
        case _:
            return SymmetricKey(k=number("k"))


def content(message, keys):
    """What an envelope holds, and for which keys it is."""
    match message:
        case Enc0Message():
            message.key, _ = keys[message.get_attr(headers.KID)]
            return message.decrypt(), [message.get_attr(headers.KID)]
        case Mac0Message():
            key_id = message.get_attr(headers.KID)
            shared = keys[key_id][0].k
            message.key = SymmetricKey(k=derived(shared, b"waypost hmac"))
            if not message.verify_tag():
                raise CoseException("its MAC is not right")
            return unchained(message.payload, derived(shared, b"waypost cbc")), [key_id]
        case EncMessage():
            ids = [recipient.get_attr(headers.KID) for recipient in message.recipients]
            recipient = next(one for one in message.recipients if one.get_attr(headers.KID) in keys)
            recipient.key, _ = keys[recipient.get_attr(headers.KID)]
            algorithm = recipient.get_attr(headers.Algorithm)
            if isinstance(recipient.key, OKPKey):
                message.key = SymmetricKey(k=agreed_on_curve25519(recipient, algorithm, message))
            elif algorithm is RsaesOaepSha256:
                message.key = SymmetricKey(k=RsaesOaepSha256.key_unwrap(recipient.key, recipient.payload))
            else:
                return message.decrypt(recipient), ids
            return EncCommon.decrypt(message), ids
    raise CoseException(f"no envelope: {type(message).__name__}")


def agreed_on_curve25519(recipient, algorithm, message):
    is_direct = algorithm is EcdhEsHKDF256
    context = recipient.get_kdf_context(message.get_attr(headers.Algorithm) if is_direct else A256KW)
    private = X25519PrivateKey.from_private_bytes(recipient.key.d)
    public = X25519PublicKey.from_public_bytes(recipient.get_attr(headers.EphemeralKey).x)
    key = derived(private.exchange(public), context.encode())
    return key if is_direct else A256KW.key_unwrap(SymmetricKey(k=key), recipient.payload)


def derived(shared, info):
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(shared)


def unchained(inner, key):
    protected, unprotected, ciphertext = cbor2.loads(inner)
    if protected != b"" or unprotected[1] != A256CBC:
        raise CoseException("not A256CBC")
    decryptor = Cipher(ciphers.AES(key), modes.CBC(unprotected[5])).decryptor()
    unpadder = padding.PKCS7(128).unpadder()
    return unpadder.update(decryptor.update(ciphertext) + decryptor.finalize()) + unpadder.finalize()


def decoded(payload, *kinds):
    """As `CoseMessage.decode`, which wants what is in a tagged item mutable; cbor2 gives tuples and the like since version 6."""
    item = cbor2.loads(payload)
    kind = next(kind for kind in kinds if kind.cbor_tag == item.tag)
    return kind.from_cose_obj(mutable(item.value), True)


def mutable(value):
    if isinstance(value, (list, tuple)):
        return [mutable(item) for item in value]
    if isinstance(value, collections.abc.Mapping):
        return {name: mutable(item) for name, item in value.items()}
    return value


def opened(payload, topic, keys, trusted):
    message = decoded(payload, Enc0Message, Mac0Message, EncMessage)
    outer = message.phdr
    plaintext, ids = content(message, keys)
    if outer[TOPIC] != topic:
        raise CoseException("another topic")
    if SIGNER not in outer:
        return plaintext, None
    signed = decoded(plaintext, Sign1Message)
    inner = signed.phdr
    if any(inner[label] != outer[label] for label in (TOPIC, MESSAGE_ID)) or inner[RECIPIENTS] != ids:
        raise CoseException("what is signed is not what was sealed")
    signed.key, name = trusted[inner[headers.KID]]
    if inner[headers.KID] != outer[SIGNER] or not signed.verify_signature():
        raise CoseException("its signature is not right")
    return signed.payload, name


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("filter")
    parser.add_argument("--key", action="append", required=True, metavar="FILE")
    parser.add_argument("--trust", action="append", default=[], metavar="FILE")
    options = parser.parse_args()
    keys, trusted = read_keys(options.key), read_keys(options.trust)

    def show(_client, _userdata, message):
        try:
            text, signer = opened(message.payload, message.topic, keys, trusted)
        except Exception as error:  # pylint: disable=broad-exception-caught  # a test wants to read any of them
            print(f"{message.topic}: not opened: {error!r}", flush=True)
            return
        sender = f"signed by {signer}" if signer else "sender unknown"
        print(f"{message.topic}: {text.decode()} ({sender})", flush=True)

    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_connect = lambda *_: client.subscribe(options.filter, qos=1)
    client.on_subscribe = lambda *_: print("reading", flush=True)
    client.on_message = show
    client.connect("127.0.0.1", options.port)
    client.loop_forever()


if __name__ == "__main__":
    main()
