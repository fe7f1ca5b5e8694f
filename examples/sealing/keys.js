// Keys as JWK (RFC 7517), in WebCrypto: what this page seals for, opens with, signs with, and whom it trusts.

const P256 = { namedCurve: "P-256" };

/** The first 8 bytes of a key's thumbprint (RFC 7638), as hexadecimal digits. */
export async function keyId(jwk) {
  const members = { EC: ["crv", "kty", "x", "y"], oct: ["k", "kty"] }[jwk.kty];
  if (!members) throw new Error(`a key of type ${jwk.kty}; this page knows EC and oct`);
  const text = JSON.stringify(Object.fromEntries(members.map((member) => [member, jwk[member]])));
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return toHex(new Uint8Array(digest, 0, 8));
}

/** The keys of this page, by id. */
export class KeyRing {
  /** id → { name, key }, each. */
  agreeing = new Map();
  shared = new Map();
  signing = new Map();
  /** Public keys: those to seal for, and those whose signatures are known. */
  peers = new Map();
  verifying = new Map();

  /** Takes in what `waypost keys export NAME` prints, with or without --private: a JWK or a set of them. */
  async add(name, text) {
    const parsed = JSON.parse(text);
    for (const jwk of parsed.keys ?? [parsed]) await this.#addOne(name, jwk);
  }

  async #addOne(name, jwk) {
    const id = await keyId(jwk);
    if (jwk.kty === "oct") {
      const key = await crypto.subtle.importKey("raw", fromBase64url(jwk.k), "AES-GCM", false, ["encrypt", "decrypt"]);
      this.shared.set(id, { name, key });
      return;
    }
    if (jwk.crv !== "P-256") throw new Error(`a key on ${jwk.crv}; this page knows P-256`);
    const point = { kty: "EC", crv: "P-256", x: jwk.x, y: jwk.y };
    const [algorithm, usage, known, own] =
      jwk.use === "sig"
        ? ["ECDSA", ["sign"], this.verifying, this.signing]
        : ["ECDH", ["deriveBits"], this.peers, this.agreeing];
    const importKey = (key, usages) => crypto.subtle.importKey("jwk", key, { name: algorithm, ...P256 }, false, usages);
    known.set(id, { name, key: await importKey(point, algorithm === "ECDSA" ? ["verify"] : []) });
    if (jwk.d) own.set(id, { name, key: await importKey({ ...point, d: jwk.d }, usage) });
  }

  /** Makes a key to be sealed for and one to sign with; gives their public halves, for others. The private ones cannot be
   * read out again, not even by this page. */
  async make(name) {
    const keys = [];
    for (const [use, algorithm, usages] of [
      ["enc", "ECDH", ["deriveBits"]],
      ["sig", "ECDSA", ["sign", "verify"]],
    ]) {
      const pair = await crypto.subtle.generateKey({ name: algorithm, ...P256 }, false, usages);
      const { kty, crv, x, y } = await crypto.subtle.exportKey("jwk", pair.publicKey);
      const jwk = { kty, crv, x, y, use };
      const id = await keyId(jwk);
      (use === "sig" ? this.signing : this.agreeing).set(id, { name, key: pair.privateKey });
      await this.#addOne(name, jwk);
      keys.push(jwk);
    }
    return JSON.stringify({ keys }, null, 2);
  }

  /** The last one of that name: id, name and key. */
  static named(keys, name) {
    const found = [...keys].findLast(([, entry]) => entry.name === name);
    return found && { id: found[0], ...found[1] };
  }
}

export function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function fromHex(text) {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

export function fromBase64url(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
}

export function toBase64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
