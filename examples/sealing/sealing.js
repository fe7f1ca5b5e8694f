// Seals and opens messages in a browser by WebCrypto, as docs/sealing-format.md has them: COSE (RFC 9052, 9053) with AES-GCM,
// for a shared key or for receivers' P-256 keys, signed by ES256 or by nobody.

import { Tagged, decode, encode, join } from "./cbor.js";
import { fromBase64url, fromHex, toBase64url, toHex } from "./keys.js";

const TAG = { encrypt0: 16, sign1: 18, encrypt: 96 };
const ALG = 1;
const KID = 4;
const IV = 5;
const EPHEMERAL = -1;
const TOPIC = -65537;
const MESSAGE_ID = -65538;
const CONTENT_ENCODING = -65539;
const SIGNER = -65540;
const RECIPIENTS = -65541;
const A256GCM = 3;
const A256KW = -5;
const ES256 = -7;
const ECDH_ES = -25;
const ECDH_ES_A256KW = -31;

/** What a message may come to when it is unpacked: beyond it, it is taken for a bomb. */
const UNPACKED_BYTES_MAX = 16 * 1024 * 1024;
/** How many messages are remembered, so that one that comes again is seen. */
const REMEMBERED_MAX = 10_000;

/**
 * Seals `message` (bytes) for the topic on which its receivers will see it.
 * `recipients` are keys of `KeyRing.peers`, or one of `KeyRing.shared` with `isShared`; `signer` is one of `signing`, or none.
 */
export async function seal(message, { topic, recipients, isShared = false, signer }) {
  const messageId = crypto.getRandomValues(new Uint8Array(16));
  const ids = recipients.map(({ id }) => fromHex(id));
  const common = [
    [TOPIC, topic],
    [MESSAGE_ID, messageId],
  ];
  const header = [[ALG, A256GCM], ...common];
  let plaintext = message;
  if (signer) {
    header.push([SIGNER, fromHex(signer.id)]);
    const inner = encode(new Map([[ALG, ES256], [KID, fromHex(signer.id)], ...common, [RECIPIENTS, ids]]));
    const signed = encode(["Signature1", inner, new Uint8Array(), message]);
    const signature = await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, signer.key, signed);
    plaintext = encode(new Tagged(TAG.sign1, [inner, new Map(), message, new Uint8Array(signature)]));
  }
  const outer = encode(new Map(header));
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const encrypt = async (context, key) => {
    const additionalData = encode([context, outer, new Uint8Array()]);
    return new Uint8Array(await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData }, key, plaintext));
  };
  if (isShared) {
    const unprotected = new Map([[KID, ids[0]], [IV, iv]]);
    return encode(new Tagged(TAG.encrypt0, [outer, unprotected, await encrypt("Encrypt0", recipients[0].key)]));
  }
  let key;
  const structures = [];
  if (recipients.length === 1) {
    const agreed = await agree(recipients[0].key, ECDH_ES, A256GCM);
    key = await crypto.subtle.importKey("raw", agreed.secret, "AES-GCM", false, ["encrypt"]);
    structures.push([agreed.header, new Map([[EPHEMERAL, agreed.ephemeral], [KID, ids[0]]]), new Uint8Array()]);
  } else {
    key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt"]);
    for (const [index, recipient] of recipients.entries()) {
      const agreed = await agree(recipient.key, ECDH_ES_A256KW, A256KW);
      const wrapping = await crypto.subtle.importKey("raw", agreed.secret, "AES-KW", false, ["wrapKey"]);
      const wrapped = new Uint8Array(await crypto.subtle.wrapKey("raw", key, wrapping, "AES-KW"));
      structures.push([agreed.header, new Map([[EPHEMERAL, agreed.ephemeral], [KID, ids[index]]]), wrapped]);
    }
  }
  return encode(new Tagged(TAG.encrypt, [outer, new Map([[IV, iv]]), await encrypt("Encrypt", key), structures]));
}

/** Opens messages with the keys of a ring, each once. */
export class Opener {
  #ring;
  #seen = new Set();

  constructor(ring) {
    this.#ring = ring;
  }

  /** Gives { text, sender }, sender null when nobody signed; anything that is not as it should be is thrown. */
  async open(payload, topic) {
    try {
      return await this.#open(payload, topic);
    } catch (error) {
      // A part that is missing, or is something else than it should be.
      throw error instanceof TypeError ? new Error("it is not sealed as this page knows it") : error;
    }
  }

  async #open(payload, topic) {
    const envelope = decodeEnvelope(payload);
    if (![TAG.encrypt0, TAG.encrypt].includes(envelope.tag)) {
      throw new Error(`it is sealed in a way this page does not know (COSE tag ${envelope.tag})`);
    }
    const [outer, unprotected, ciphertext, structures = []] = envelope.value;
    const header = decode(outer);
    if (header.get(ALG) !== A256GCM) throw new Error(`it is sealed with algorithm ${header.get(ALG)}; this page knows A256GCM`);
    const isShared = envelope.tag === TAG.encrypt0;
    const ids = (isShared ? [unprotected] : structures.map(([, map]) => map)).map((map) => toHex(map.get(KID)));
    const key = isShared ? this.#ring.shared.get(ids[0])?.key : await this.#contentKey(structures, ids);
    if (!key) throw new Error(`it is for ${ids.join(", ")}, and none of these keys is here`);
    const additionalData = encode([isShared ? "Encrypt0" : "Encrypt", outer, new Uint8Array()]);
    let message;
    try {
      const algorithm = { name: "AES-GCM", iv: unprotected.get(IV), additionalData };
      message = new Uint8Array(await crypto.subtle.decrypt(algorithm, key, ciphertext));
    } catch {
      throw new Error("it does not open: another key, or it was changed");
    }
    if (header.get(TOPIC) !== topic) throw new Error(`it was sealed for the topic ${header.get(TOPIC)}, and came on ${topic}`);
    let sender = null;
    if (header.has(SIGNER)) [message, sender] = await this.#verify(message, header, ids);
    this.#once(`${sender?.id} ${toHex(header.get(MESSAGE_ID))}`);
    const bytes = await unpack(message, header.get(CONTENT_ENCODING));
    return { text: new TextDecoder().decode(bytes), sender: sender?.name ?? null };
  }

  /** The key of the content, by the first recipient that is one of ours. */
  async #contentKey(structures, ids) {
    const index = ids.findIndex((id) => this.#ring.agreeing.has(id));
    if (index < 0) return null;
    const { key } = this.#ring.agreeing.get(ids[index]);
    const [header, unprotected, wrapped] = structures[index];
    const point = unprotected.get(EPHEMERAL);
    if (point.get(1) !== 2 || point.get(-1) !== 1) throw new Error("its ephemeral key is not of P-256");
    const isDirect = decode(header).get(ALG) === ECDH_ES;
    if (isDirect && (structures.length !== 1 || wrapped.length !== 0)) throw new Error("a direct key is for one receiver alone");
    if (!isDirect && decode(header).get(ALG) !== ECDH_ES_A256KW) {
      throw new Error(`its key is wrapped by algorithm ${decode(header).get(ALG)}; this page knows ECDH`);
    }
    try {
      const jwk = { kty: "EC", crv: "P-256", x: toBase64url(point.get(-2)), y: toBase64url(point.get(-3)) };
      const ephemeral = await crypto.subtle.importKey("jwk", jwk, { name: "ECDH", namedCurve: "P-256" }, false, []);
      const secret = await derive(key, ephemeral, isDirect ? A256GCM : A256KW, header);
      if (isDirect) return await crypto.subtle.importKey("raw", secret, "AES-GCM", false, ["decrypt"]);
      const wrapping = await crypto.subtle.importKey("raw", secret, "AES-KW", false, ["unwrapKey"]);
      return await crypto.subtle.unwrapKey("raw", wrapped, wrapping, "AES-KW", "AES-GCM", false, ["decrypt"]);
    } catch {
      throw new Error("it does not open: another key, or it was changed");
    }
  }

  /** What is signed has to be what was sealed: the same topic, message and receivers. */
  async #verify(plaintext, outer, ids) {
    const signed = decode(plaintext);
    if (!(signed instanceof Tagged) || signed.tag !== TAG.sign1) throw new Error("it names a signer, and is not signed");
    const [inner, , message, signature] = signed.value;
    const header = decode(inner);
    const id = toHex(header.get(KID));
    const known = this.#ring.verifying.get(id);
    if (!known) throw new Error(`it is signed with ${id}, a key that is not trusted here`);
    const isTheSame =
      header.get(ALG) === ES256 &&
      id === toHex(outer.get(SIGNER)) &&
      header.get(TOPIC) === outer.get(TOPIC) &&
      toHex(header.get(MESSAGE_ID)) === toHex(outer.get(MESSAGE_ID)) &&
      header.get(RECIPIENTS).map(toHex).join() === ids.join();
    const bytes = encode(["Signature1", inner, new Uint8Array(), message]);
    if (!isTheSame || !(await crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, known.key, signature, bytes))) {
      throw new Error("its signature is not right");
    }
    return [message, { id, name: known.name }];
  }

  #once(message) {
    if (this.#seen.has(message)) throw new Error("it came before: somebody sent it again");
    this.#seen.add(message);
    // A Set keeps the order in which things were added: the oldest is forgotten.
    if (this.#seen.size > REMEMBERED_MAX) this.#seen.delete(this.#seen.values().next().value);
  }
}

function decodeEnvelope(payload) {
  let why = "it is no COSE";
  try {
    const item = decode(payload);
    if (item instanceof Tagged) return item;
  } catch (error) {
    why = error.message;
  }
  throw new Error(`it is not sealed: ${why}`);
}

/** A key for `recipient` from a pair made for this message alone, whose public half goes along. */
async function agree(recipient, agreement, algorithm) {
  const pair = await crypto.subtle.generateKey({ name: "ECDH", namedCurve: "P-256" }, false, ["deriveBits"]);
  const { x, y } = await crypto.subtle.exportKey("jwk", pair.publicKey);
  const header = encode(new Map([[ALG, agreement]]));
  const ephemeral = new Map([[1, 2], [-1, 1], [-2, fromBase64url(x)], [-3, fromBase64url(y)]]);
  return { header, ephemeral, secret: await derive(pair.privateKey, recipient, algorithm, header) };
}

/** ECDH, then HKDF-SHA-256 over the context of RFC 9053 §5.2. */
async function derive(privateKey, publicKey, algorithm, header) {
  const nobody = [null, null, null];
  const info = encode([algorithm, nobody, nobody, [256, header]]);
  const shared = await crypto.subtle.deriveBits({ name: "ECDH", public: publicKey }, privateKey, 256);
  const key = await crypto.subtle.importKey("raw", shared, "HKDF", false, ["deriveBits"]);
  return crypto.subtle.deriveBits({ name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info }, key, 256);
}

async function unpack(bytes, encoding = "identity") {
  if (encoding === "identity") return bytes;
  if (encoding !== "deflate") throw new Error(`it is packed with ${encoding}; this page knows deflate`);
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const parts = [];
  let length = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    length += part.value.length;
    if (length > UNPACKED_BYTES_MAX) throw new Error(`unpacked it is longer than ${UNPACKED_BYTES_MAX} bytes`);
    parts.push(part.value);
  }
  return join(...parts);
}
