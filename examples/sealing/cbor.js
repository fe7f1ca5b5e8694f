// As much of CBOR (RFC 8949) as sealed messages need. Numbers are JavaScript's, bytes are Uint8Array, maps are Map.
// What is written is deterministic (§4.2); what is read is one item of definite lengths, and nothing behind it.

export class Tagged {
  constructor(tag, value) {
    this.tag = tag;
    this.value = value;
  }
}

/** How deep items may stand in each other; an envelope needs 6. */
const DEPTH_MAX = 16;

export function encode(value) {
  if (Number.isSafeInteger(value)) return value < 0 ? head(1, -1 - value) : head(0, value);
  if (value instanceof Uint8Array) return join(head(2, value.length), value);
  if (typeof value === "string") {
    const bytes = new TextEncoder().encode(value);
    return join(head(3, bytes.length), bytes);
  }
  if (Array.isArray(value)) return join(head(4, value.length), ...value.map(encode));
  if (value instanceof Map) {
    const entries = [...value].map(([key, item]) => [encode(key), encode(item)]);
    entries.sort(([one], [other]) => compare(one, other));
    return join(head(5, entries.length), ...entries.flat());
  }
  if (value instanceof Tagged) return join(head(6, value.tag), encode(value.value));
  if (value === null) return Uint8Array.of(0xf6);
  throw new TypeError(`no CBOR for ${value}`);
}

export function decode(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const take = (length) => {
    if (length > bytes.length - at) throw new Error(`CBOR ends at ${bytes.length}, inside an item`);
    at += length;
    return at - length;
  };
  const argument = (info) => {
    if (info < 24) return info;
    if (info === 24) return view.getUint8(take(1));
    if (info === 25) return view.getUint16(take(2));
    if (info === 26) return view.getUint32(take(4));
    if (info === 27) {
      const number = view.getBigUint64(take(8));
      if (number <= Number.MAX_SAFE_INTEGER) return Number(number);
    }
    throw new Error(`CBOR at ${at}: a length or number that is not read here`);
  };
  const item = (depth) => {
    if (depth > DEPTH_MAX) throw new Error(`CBOR at ${at}: too deep`);
    const first = view.getUint8(take(1));
    if (first === 0xf6) return null;
    const [major, number] = [first >> 5, argument(first & 0x1f)];
    switch (major) {
      case 0:
        return number;
      case 1:
        return -1 - number;
      case 2: {
        const start = take(number);
        return bytes.slice(start, start + number);
      }
      case 3: {
        const start = take(number);
        return new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(start, start + number));
      }
      case 4: {
        const items = [];
        while (items.length < number) items.push(item(depth + 1));
        return items;
      }
      case 5: {
        const map = new Map();
        for (let count = 0; count < number; count++) {
          const key = item(depth + 1);
          if (typeof key !== "number" || map.has(key)) throw new Error(`CBOR at ${at}: a label that is none, or twice`);
          map.set(key, item(depth + 1));
        }
        return map;
      }
      case 6:
        return new Tagged(number, item(depth + 1));
      default:
        throw new Error(`CBOR at ${at}: an item that is not read here`);
    }
  };
  const value = item(0);
  if (at !== bytes.length) throw new Error(`CBOR ends at ${at}, but there is more`);
  return value;
}

function head(major, number) {
  const first = major << 5;
  if (number < 24) return Uint8Array.of(first | number);
  const [info, length] = number < 0x100 ? [24, 1] : number < 0x1_0000 ? [25, 2] : number < 0x1_0000_0000 ? [26, 4] : [27, 8];
  const bytes = new Uint8Array(1 + length);
  bytes[0] = first | info;
  for (let index = length; index > 0; index--) {
    bytes[index] = number % 256;
    number = Math.floor(number / 256);
  }
  return bytes;
}

export function join(...parts) {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function compare(one, other) {
  const index = one.findIndex((byte, index) => byte !== other[index]);
  return index < 0 ? one.length - other.length : one[index] - (other[index] ?? -1);
}
