#!/usr/bin/env python3
"""Works on orders, and refuses cancellations that would pay money back: python3 worker.py NAME [HOST [PORT]]

Refusing is PUBACK with a reason of 0x80 or more, in MQTT 5. Few client libraries can say it, so this worker speaks the four
packets that it takes by itself. It ends when the server closes the connection, and prints one line for each order.
"""

import json
import socket
import struct
import sys

ACCEPTED, REFUSED = 0x00, 0x83
FILTER = "$share/packers/orders/+"


def text(value):
    value = value.encode()
    return struct.pack(">H", len(value)) + value


def packet(first, body):
    length, size = b"", len(body)
    while True:
        size, digit = divmod(size, 128)
        length += bytes([digit | (0x80 if size else 0)])
        if not size:
            return bytes([first]) + length + body


class Server:
    def __init__(self, host, port):
        self.stream = socket.create_connection((host, port)).makefile("rwb")

    def send(self, first, body):
        self.stream.write(packet(first, body))
        self.stream.flush()

    def varint(self):
        value, shift = 0, 0
        while True:
            byte = self.stream.read(1)
            if not byte:
                raise EOFError
            value |= (byte[0] & 0x7F) << shift
            shift += 7
            if byte[0] < 0x80:
                return value

    def receive(self):
        first = self.stream.read(1)
        if not first:
            raise EOFError
        return first[0], self.stream.read(self.varint())


def varint_at(body, at):
    value, shift = 0, 0
    while True:
        byte = body[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at


def publish(body):
    """Packet Identifier and payload of a PUBLISH with QoS 1."""
    (length,) = struct.unpack_from(">H", body)
    (packet_id,) = struct.unpack_from(">H", body, 2 + length)
    properties, at = varint_at(body, 4 + length)
    return packet_id, body[at + properties :]


def can_do(order):
    return not (order["event"] == "order.cancelled" and order["total"] < 0)


def work(name, host, port):
    server = Server(host, port)
    # CONNECT: MQTT 5, a session that outlives its connection by a day, twenty messages at a time.
    properties = b"\x11" + struct.pack(">I", 86_400) + b"\x21" + struct.pack(">H", 20)
    head = text("MQTT") + bytes([5, 0]) + struct.pack(">H", 0)
    server.send(0x10, head + bytes([len(properties)]) + properties + text(name))
    # SUBSCRIBE with QoS 1.
    server.send(0x82, struct.pack(">H", 1) + b"\x00" + text(FILTER) + b"\x01")
    while True:
        first, body = server.receive()
        if first >> 4 == 9:
            print("ready", flush=True)
        if first >> 4 != 3:
            continue
        packet_id, payload = publish(body)
        order = json.loads(payload)
        is_accepted = can_do(order)
        print("packed " if is_accepted else "refused", order["order"], order["total"], flush=True)
        # PUBACK: the server gives a refused order to nobody else.
        server.send(0x40, struct.pack(">HB", packet_id, ACCEPTED if is_accepted else REFUSED))


if __name__ == "__main__":
    name, host, port = (sys.argv[1:] + ["worker", "127.0.0.1", "1883"][len(sys.argv) - 1 :])[:3]
    try:
        work(name, host, int(port))
    except (EOFError, ConnectionError, KeyboardInterrupt):
        pass
