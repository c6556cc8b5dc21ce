"""A client of AMQP 0-9-1, as small as the incidents need it: it declares, binds, publishes with confirms, and deletes."""

import socket
import struct
import time
import urllib.parse

METHOD, HEADER, END = 1, 2, b"\xce"
START, TUNE, OPENED, CLOSED = (10, 10), (10, 30), (10, 41), (10, 50)
CHANNEL_OPENED, CHANNEL_CLOSED = (20, 11), (20, 40)
ACK, RETURNED = (60, 80), (60, 50)
BODY_MAX = 100_000


class Refused(Exception):
    """The broker closed the connection or the channel."""


def short(text):
    text = text.encode()
    return struct.pack(">B", len(text)) + text


def long(data):
    return struct.pack(">I", len(data)) + data


def table(arguments):
    fields = b""
    for name, value in arguments.items():
        fields += short(name) + (b"I" + struct.pack(">i", value) if isinstance(value, int) else b"S" + long(value.encode()))
    return long(fields)


class Amqp:
    """One connection with one channel in confirm mode."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        user, password = (urllib.parse.unquote(part or "guest") for part in (parts.username, parts.password))
        host = urllib.parse.unquote(parts.path.lstrip("/")) or "/"
        self.socket = socket.create_connection((parts.hostname, parts.port or 5672), timeout=20)
        self.buffer = b""
        self.published = self.confirmed = 0
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.wait(START)
        self.send(0, (10, 11), table({}) + short("PLAIN") + long(f"\0{user}\0{password}".encode()) + short("en_US"))
        channels, frame, _ = struct.unpack(">HIH", self.wait(TUNE)[:8])
        self.send(0, (10, 31), struct.pack(">HIH", channels, frame, 0))
        self.send(0, (10, 40), short(host) + short("") + b"\0")
        self.wait(OPENED)
        self.call((20, 10), short(""), CHANNEL_OPENED)
        self.call((85, 10), b"\0", (85, 11))

    def frame(self, kind, channel, payload):
        self.socket.sendall(struct.pack(">BHI", kind, channel, len(payload)) + payload + END)

    def send(self, channel, method, arguments):
        self.frame(METHOD, channel, struct.pack(">HH", *method) + arguments)

    def read(self, length):
        while len(self.buffer) < length:
            more = self.socket.recv(65536)
            if not more:
                raise Refused("the connection ended")
            self.buffer += more
        taken, self.buffer = self.buffer[:length], self.buffer[length:]
        return taken

    def next(self):
        """The next method with its arguments; frames of contents are passed over."""
        while True:
            kind, _, length = struct.unpack(">BHI", self.read(7))
            payload = self.read(length + 1)[:-1]
            if kind == METHOD:
                return struct.unpack(">HH", payload[:4]), payload[4:]

    def wait(self, wanted):
        while True:
            method, arguments = self.next()
            if method == ACK:
                self.confirmed = max(self.confirmed, struct.unpack(">Q", arguments[:8])[0])
            if method in (CLOSED, CHANNEL_CLOSED):
                code, length = struct.unpack(">HB", arguments[:3])
                raise Refused(f"{code} {arguments[3:3 + length].decode()}")
            if method == RETURNED:
                raise Refused("no queue took a message")
            if method == wanted:
                return arguments

    def call(self, method, arguments, answer):
        self.send(1, method, arguments)
        return self.wait(answer)

    def declare(self, queue, arguments):
        self.call((50, 10), struct.pack(">H", 0) + short(queue) + b"\0" + table(arguments), (50, 11))

    def bind(self, queue, exchange, key):
        self.call((50, 20), struct.pack(">H", 0) + short(queue) + short(exchange) + short(key) + b"\0" + table({}), (50, 21))

    def delete_queue(self, queue):
        self.call((50, 40), struct.pack(">H", 0) + short(queue) + b"\0", (50, 41))

    def delete_exchange(self, exchange):
        self.call((40, 20), struct.pack(">H", 0) + short(exchange) + b"\0", (40, 21))

    def publish(self, exchange, key, body, message_id=""):
        """Persistent and mandatory. `confirm` waits for the broker."""
        assert len(body) < BODY_MAX
        self.send(1, (60, 40), struct.pack(">H", 0) + short(exchange) + short(key) + b"\1")
        properties = short("application/json") + b"\2" + short(message_id) + struct.pack(">Q", int(time.time()))
        self.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, len(body), 0x8000 | 0x1000 | 0x0080 | 0x0040) + properties)
        self.frame(3, 1, body)
        self.published += 1

    def confirm(self):
        while self.confirmed < self.published:
            self.wait(ACK)

    def close(self):
        self.socket.close()
