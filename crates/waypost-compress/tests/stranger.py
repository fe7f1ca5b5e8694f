"""Unpacks what docs/compression.md describes, written from that page alone: what a stranger needs to read our messages.

    python3 stranger.py ENCODING < packed > plain

ENCODING is what `content-encoding` says: `waypost-rle`, `waypost-huffman`, `waypost-arithmetic`, `waypost-lz4`, `deflate`,
`compress`, or several with commas between them.
"""

import subprocess
import sys
import zlib


def leb128(packed):
    number = 0
    for at, byte in enumerate(packed):
        number |= (byte & 0x7F) << (7 * at)
        if byte < 0x80:
            return number, packed[at + 1 :]
    raise ValueError("no length")


def rle(packed):
    plain, at = bytearray(), 0
    while at < len(packed):
        n = packed[at]
        if n < 128:
            plain += packed[at + 1 : at + n + 2]
            at += n + 2
        elif n == 128:
            at += 1
        else:
            plain += packed[at + 1 : at + 2] * (257 - n)
            at += 2
    return bytes(plain)


def huffman(packed):
    head, rest = leb128(packed)
    if head % 2 == 0:
        return rest
    blocks = int.from_bytes(rest[:2], "big")
    rest, occurring = rest[2:], []
    for block in range(16):
        if blocks >> (15 - block) & 1:
            mask = int.from_bytes(rest[:2], "big")
            rest = rest[2:]
            occurring += [16 * block + n for n in range(16) if mask >> (15 - n) & 1]
    halves = [half for byte in rest for half in (byte >> 4, byte & 15)]
    lengths = dict(zip(occurring, halves))
    rest = rest[(len(occurring) + 1) // 2 :]
    codes, code = {}, 0
    for length in range(1, 13):
        code <<= 1
        for byte in occurring:
            if lengths[byte] == length:
                codes[length, code] = byte
                code += 1
    plain, code, length = bytearray(), 0, 0
    for bit in (byte >> shift & 1 for byte in rest for shift in range(7, -1, -1)):
        if len(plain) == head >> 1:
            break
        code, length = code << 1 | bit, length + 1
        if (length, code) in codes:
            plain.append(codes[length, code])
            code, length = 0, 0
    return bytes(plain)


# ITU-T T.88, table E.1: Qe, the next row after a likely and after an unlikely bit, whether the likely bit changes.
ROWS = [
    (0x5601, 1, 1, 1), (0x3401, 2, 6, 0), (0x1801, 3, 9, 0), (0x0AC1, 4, 12, 0), (0x0521, 5, 29, 0), (0x0221, 38, 33, 0),
    (0x5601, 7, 6, 1), (0x5401, 8, 14, 0), (0x4801, 9, 14, 0), (0x3801, 10, 14, 0), (0x3001, 11, 17, 0), (0x2401, 12, 18, 0),
    (0x1C01, 13, 20, 0), (0x1601, 29, 21, 0), (0x5601, 15, 14, 1), (0x5401, 16, 14, 0), (0x5101, 17, 15, 0), (0x4801, 18, 16, 0),
    (0x3801, 19, 17, 0), (0x3401, 20, 18, 0), (0x3001, 21, 19, 0), (0x2801, 22, 19, 0), (0x2401, 23, 20, 0), (0x2201, 24, 21, 0),
    (0x1C01, 25, 22, 0), (0x1801, 26, 23, 0), (0x1601, 27, 24, 0), (0x1401, 28, 25, 0), (0x1201, 29, 26, 0), (0x1101, 30, 27, 0),
    (0x0AC1, 31, 28, 0), (0x09C1, 32, 29, 0), (0x08A1, 33, 30, 0), (0x0521, 34, 31, 0), (0x0441, 35, 32, 0), (0x02A1, 36, 33, 0),
    (0x0221, 37, 34, 0), (0x0141, 38, 35, 0), (0x0111, 39, 36, 0), (0x0085, 40, 37, 0), (0x0049, 41, 38, 0), (0x0025, 42, 39, 0),
    (0x0015, 43, 40, 0), (0x0009, 44, 41, 0), (0x0005, 45, 42, 0), (0x0001, 45, 43, 0), (0x5601, 46, 46, 0),
]


def arithmetic(packed):
    head, code = leb128(packed)
    if head % 2 == 0:
        return code
    code += b"\xff\xff"
    at, c, ct, a = 0, code[0] << 16, 0, 0x8000

    def byte_in():
        nonlocal at, c, ct
        if code[at] == 0xFF and code[at + 1] > 0x8F:
            c, ct = c + 0xFF00, 8
        elif code[at] == 0xFF:
            at += 1
            c, ct = c + (code[at] << 9), 7
        else:
            at += 1
            c, ct = c + (code[at] << 8), 8

    byte_in()
    c, ct = c << 7, ct - 7
    rows, likely = [0] * 256, [0] * 256
    plain = bytearray()
    for _ in range(head >> 1):
        context = 1
        while context < 256:
            qe, after_likely, after_unlikely, switches = ROWS[rows[context]]
            a -= qe
            if c >> 16 < qe:
                is_likely, a, renormalize = a < qe, qe, True
            else:
                c -= qe << 16
                renormalize = a < 0x8000
                is_likely = not renormalize or a >= qe
            bit = likely[context] if is_likely else 1 - likely[context]
            if renormalize:
                rows[context] = after_likely if is_likely else after_unlikely
                if not is_likely and switches:
                    likely[context] = bit
                while a < 0x8000:
                    if ct == 0:
                        byte_in()
                    a, c, ct = a << 1, c << 1 & 0xFFFFFFFF, ct - 1
            context = context << 1 | bit
        plain.append(context & 0xFF)
    return bytes(plain)


def lz4(packed):
    plain, at = bytearray(), 4

    def length(half):
        nonlocal at
        if half == 15:
            while True:
                half += packed[at]
                at += 1
                if packed[at - 1] != 255:
                    break
        return half

    while at < len(packed):
        token = packed[at]
        at += 1
        literals = length(token >> 4)
        plain += packed[at : at + literals]
        at += literals
        if at < len(packed):
            distance = int.from_bytes(packed[at : at + 2], "little")
            at += 2
            for _ in range(length(token & 15) + 4):
                plain.append(plain[-distance])
    assert len(plain) == int.from_bytes(packed[:4], "little")
    return bytes(plain)


def compress(packed):
    return subprocess.run(["gzip", "-dc"], input=packed, stdout=subprocess.PIPE, check=True).stdout


DECODERS = {
    "identity": bytes,
    "waypost-rle": rle,
    "waypost-huffman": huffman,
    "waypost-arithmetic": arithmetic,
    "waypost-lz4": lz4,
    "deflate": zlib.decompress,
    "compress": compress,
}

if __name__ == "__main__":
    message = sys.stdin.buffer.read()
    for name in reversed(sys.argv[1].split(",")):
        message = DECODERS[name.strip()](message)
    sys.stdout.buffer.write(message)
