"""A whole client of the wire protocol: protobuf, frames and one connection, with Python's standard library only.

It was written from docs/reference/wire.md, wire.proto and control.proto, and reads from top to bottom. It is a client to learn
from, and not one to use: it serves one caller, blocks while it waits, and takes every surprise for an error.
"""

import hashlib
import os
import socket
import struct
from dataclasses import dataclass

LIMIT = 90  # seconds: no read and no write waits longer


class Failed(Exception):
    """The other side did not do what the page says."""


def check(fact, text):
    if not fact:
        raise Failed(text)


# -- Protobuf, as much of it as the protocol needs -------------------------------------------------------------------

def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def field(number, value):
    """One field: a varint for a number, length and bytes for the rest; nothing for what is zero or empty."""
    if isinstance(value, str):
        value = value.encode()
    if not value:
        return b""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def fixed64(number, value):
    return varint(number << 3 | 1) + struct.pack("<Q", value) if value else b""


class Message(dict):
    """A message that was read: the last value of each field by number, 0 if it was left out; and all of them."""

    def __init__(self, data):
        super().__init__()
        self.all, at = [], 0
        while at < len(data):
            key, at = read_varint(data, at)
            if key & 7 == 0:
                value, at = read_varint(data, at)
            elif key & 7 == 1:
                check(at + 8 <= len(data), "a number reaches past its end")
                value, at = struct.unpack_from("<Q", data, at)[0], at + 8
            else:
                check(key & 7 == 2, f"a wire type that the protocol does not use: {key & 7}")
                length, at = read_varint(data, at)
                check(at + length <= len(data), "a field reaches past the end of its message")
                value, at = data[at:at + length], at + length
            self[key >> 3] = value
            self.all.append((key >> 3, value))

    def __missing__(self, number):
        return 0


def read_varint(data, at):
    value = shift = 0
    while True:
        check(at < len(data) and shift < 70, "a number reaches past its end")
        value, shift, at = value | (data[at] & 0x7F) << shift, shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at


# -- Frames ----------------------------------------------------------------------------------------------------------

HELLO, CALL, SEND, DATA, REPLY, CANCEL, CREDIT, PING, PONG, GOAWAY = range(1, 11)
MORE, END, NOT_EXECUTED, ABORTED, PACKED = 1, 2, 4, 8, 16
MAGIC = 0x0163707274737572
FLOOR = 65536  # everybody takes frames of this length, even before HELLO; here it is also all that we take
FRAGMENT = 128 * 1024
MAX_ROW = 64 * 1024  # the longest payload of a packed frame
CHARGE = 256  # what a message costs beside its bytes; and more than the other fields of our frames take


@dataclass
class Frame:
    """One frame. Metadata, compression and the latency of a reply are left out: whoever does not need them may."""

    kind: int
    id: int = 0
    flags: int = 0
    procedure: int = 0
    timeout_us: int = 0
    code: int = 0
    message: bytes = b""
    length: int = 0
    details: bytes = b""
    payload: bytes = b""
    depth: int = 0
    trace: tuple = ()  # traceparent, tracestate and baggage; empty for a call of no trace

    def encode(self):
        return framed(field(1, self.kind) + field(2, self.id) + field(3, self.flags) + fixed64(4, self.procedure)
                      + field(5, self.timeout_us) + field(9, self.length) + field(14, self.depth)
                      + field(16, b"".join(field(at, text) for at, text in enumerate(self.trace, 1)))
                      + field(15, self.payload))

    @classmethod
    def decode(cls, body):
        m = Message(body)
        trace = Message(m[16] or b"")
        trace = tuple((trace[at] or b"").decode() for at in (1, 2, 3)) if trace else ()
        return cls(m[1], m[2], m[3], m[4], m[5], m[6], m[7] or b"", m[9], m[13] or b"", m[15] or b"", m[14], trace)

    def __str__(self):  # without the payload: it may be long, and it may be secret
        text = f"kind {self.kind}, id {self.id}, flags {self.flags}, code {self.code} {self.message}"
        return f"{text}, {len(self.payload)} bytes"


def framed(body):
    return struct.pack(">I", len(body)) + body


def row(messages):
    """The payload of a packed frame: each message behind its length."""
    return b"".join(varint(len(message)) + message for message in messages)


def messages(frame):
    """What a SEND brings, or a DATA of a stream: one message, or several if it is packed."""
    if not frame.flags & PACKED:
        return [frame.payload]
    check(0 < len(frame.payload) <= MAX_ROW, f"a packed frame has 1 to {MAX_ROW} bytes: {frame}")
    found, at = [], 0
    while at < len(frame.payload):
        length, at = read_varint(frame.payload, at)
        check(at + length <= len(frame.payload), f"a message reaches past its packed frame: {frame}")
        found.append(frame.payload[at:at + length])
        at += length
    return found


def requests(frame):
    """The one-way requests of a SEND: their ids, each 2 higher than the one before, and their messages."""
    return [(frame.id + 2 * place, message) for place, message in enumerate(messages(frame))]


def procedure(name):
    """The number of a procedure: the first 8 bytes of a hash of its name, as a little-endian fixed64."""
    return struct.unpack("<Q", hashlib.sha256(name.encode()).digest()[:8])[0]


def hello(magic=MAGIC, versions=(1, 1), max_frame=FLOOR, metadata=()):
    """Our HELLO: no less than the floor, and messages of 2 MiB."""
    body = fixed64(1, magic) + field(2, versions[0]) + field(3, versions[1]) + field(4, max_frame)
    body += field(5, 2 << 20) + field(6, 16) + field(7, FLOOR) + field(8, FLOOR) + field(9, FLOOR)
    body += b"".join(field(14, field(1, key) + field(2, value)) for key, value in metadata)
    body += field(12, os.urandom(8)) + field(13, "peer.py/1") + field(15, 10_000)
    return Frame(HELLO, payload=body).encode()


# -- A connection ----------------------------------------------------------------------------------------------------

class Account:
    """What became of the SENDs of a connection: the `Progress` of a PONG, or of the last GOAWAY."""

    def __init__(self, progress):
        m = Message(progress or b"")
        self.last_id, self.received, self.handled, self.failed, self.expired = (m[number] for number in range(1, 6))
        dropped = [Message(value) for number, value in m.all if number == 6]
        self.dropped = {entry[1]: entry[2] for entry in dropped}

    def waiting(self):
        return self.received - self.handled - self.failed - self.expired - sum(self.dropped.values())


class Stream:
    """The streams of one call: the credit for our messages, and the messages that came. They are few: we grant no more."""

    def __init__(self, window):
        self.balance = window
        self.read = []


class Client:
    """The side that connected. It reads while it waits for something, and keeps what it reads until asked for it."""

    def __init__(self, address, first=None):
        self.socket = address if isinstance(address, socket.socket) else dial(address)
        self.buffer = bytearray()
        self.next_id = 1  # odd, for we have connected
        self.server = None  # its HELLO
        self.open = set()  # the ids of CALLs without a REPLY
        self.unfinished = {}  # replies that still miss fragments, by id
        self.replies = {}  # the others, by id, in the order in which they came
        self.fragments = 0
        self.streams = {}  # by the ids of their calls
        self.charged = self.granted = 0  # credit of SENDs
        self.pong = None  # the newest
        self.pings = 0
        self.goaways = []
        self.at_end = False
        # HELLO goes out first, and nothing waits for the other side's.
        self.write(first or hello())

    def write(self, data):
        self.socket.sendall(data)

    def start(self, number, payload=b"", timeout_us=30_000_000):
        """Writes a CALL, and does not wait for its REPLY. Gives the id."""
        check(len(self.open) < (self.server[6] if self.server else 16), "no more calls than the server takes")
        call, frames = self.request(CALL, number, payload, timeout_us)
        self.open.add(call)
        self.write(b"".join(frames))
        return call

    def reply(self, call):
        return self.until(lambda: self.replies.get(call), f"the reply of call {call}")

    def call(self, number, payload=b"", timeout_us=30_000_000):
        return self.reply(self.start(number, payload, timeout_us))

    def cancel(self, call):
        """Says that nobody wants the reply of `call`. It will come all the same."""
        self.write(Frame(CANCEL, call).encode())

    def send(self, number, payload=b""):
        """Writes a SEND as soon as there is credit."""
        self.charge(payload)
        self.write(b"".join(self.request(SEND, number, payload)[1]))

    def send_packed(self, number, requests):
        """Writes several one-way requests in one packed SEND, which is charged once, as soon as there is credit."""
        payload = row(requests)
        self.charge(payload)
        first, self.next_id = self.next_id, self.next_id + 2 * len(requests)
        self.write(Frame(SEND, first, END | PACKED, number, payload=payload).encode())

    def charge(self, payload):
        """Waits for credit of SENDs, and takes it: a balance above 0 is enough, and it may go below."""
        self.until(lambda: self.server, "HELLO")
        self.until(lambda: self.server[8] + self.granted - self.charged > 0, "credit")
        self.charged += len(payload) + CHARGE

    def stream(self, number):
        """Writes a CALL that is followed by a stream of requests. Gives the id."""
        self.until(lambda: self.server, "HELLO")
        call, self.next_id = self.next_id, self.next_id + 2
        self.open.add(call)
        self.streams[call] = Stream(self.server[9])
        self.write(Frame(CALL, call, 0, number).encode())
        return call

    def put(self, call, requests):
        """Writes requests of a stream in one packed frame, which is charged once, as soon as there is credit."""
        stream, payload = self.streams[call], row(requests)
        self.until(lambda: stream.balance > 0, "credit of a stream")
        stream.balance -= len(payload) + CHARGE
        self.write(Frame(DATA, call, PACKED, payload=payload).encode())

    def finish(self, call):
        """Says that a stream of requests is complete."""
        self.write(Frame(DATA, call, END).encode())

    def barrier(self):
        """Waits until the server has received every SEND so far. Gives the account of them."""
        self.pong = None
        self.write(Frame(PING, payload=b"barrier!").encode())
        pong = self.until(lambda: self.pong, "a PONG")
        check(pong[1] == b"barrier!", f"PONG brings the bytes of the PING back: {pong[1]}")
        return Account(pong[2])

    def request(self, kind, number, payload=b"", timeout_us=0):
        """The id and the frames of a request: more than one if it is too long for one frame."""
        size = min(FRAGMENT, (self.server[4] if self.server else FLOOR) - CHARGE)
        new, self.next_id = self.next_id, self.next_id + 2
        first = Frame(kind, new, END, number, timeout_us, payload=payload[:size])
        rest = [Frame(DATA, new, MORE, payload=payload[at:at + size]) for at in range(size, len(payload), size)]
        if rest:
            first.flags, first.length, rest[-1].flags = MORE | END, len(payload), 0
        return new, [frame.encode() for frame in (first, *rest)]

    def close(self):
        """Says that nothing more will come, and reads on until the server says so, too."""
        check(not self.open, f"every CALL has its REPLY: {self.open}")
        self.socket.shutdown(socket.SHUT_WR)
        check(not self.end(), "a connection that ends well needs no GOAWAY")

    def end(self):
        """Reads to the end, which the server makes, and closes. Gives the GOAWAYs."""
        self.until(lambda: self.at_end, "the end")
        check(not self.buffer, f"no frame is cut off: {self.buffer[:64].hex()}")
        self.socket.close()
        return self.goaways

    def until(self, condition, what):
        """Reads until `condition` gives something, and gives that."""
        while not (found := condition()):
            check(not self.at_end, f"{what}: the connection ended before, with {self.goaways}")
            data = self.socket.recv(1 << 18)
            self.at_end = not data
            self.buffer += data
            while frame := self.next_frame():
                self.take(frame)
        return found

    def next_frame(self):
        """Takes one frame out of the buffer, if there is a whole one."""
        if len(self.buffer) < 4:
            return None
        end = 4 + struct.unpack_from(">I", self.buffer)[0]
        check(end <= 4 + FLOOR, f"a frame is no longer than what we have announced: {end - 4}")
        if len(self.buffer) < end:
            return None
        body = bytes(self.buffer[4:end])
        del self.buffer[:end]
        return Frame.decode(body)

    def take(self, frame):
        check((frame.kind == HELLO) == (self.server is None), f"HELLO is the first frame, and no other is: {frame}")
        if frame.kind == HELLO:
            self.server = Message(frame.payload)
        elif frame.kind in (REPLY, DATA):
            self.take_reply(frame)
        elif frame.kind == CREDIT and frame.id in self.streams:
            self.streams[frame.id].balance += frame.length
        elif frame.kind == CREDIT:
            self.granted += frame.length
            check(frame.id == 0 and 0 < frame.length, f"credit is for one-way requests here: {frame}")
            check(self.granted <= self.charged, f"no more is granted than was taken: {self.granted}")
        elif frame.kind == PING:
            self.pings += 1
            self.write(Frame(PONG, payload=field(1, frame.payload)).encode())
        elif frame.kind == PONG:
            self.pong = Message(frame.payload)
        elif frame.kind == GOAWAY:
            self.goaways.append(Message(frame.payload))
        else:
            # The server calls nothing here, and other kinds from 64 on may be ignored.
            check(frame.kind >= 64, f"an unknown critical kind: {frame}")

    def take_reply(self, frame):
        check(frame.id in self.open, f"each CALL has one REPLY: {frame}")
        if frame.kind == DATA and frame.id in self.streams:
            check(not frame.flags & MORE, f"the messages of our streams are short: {frame}")
            self.streams[frame.id].read += messages(frame)
            return
        self.fragments += 1
        reply = frame
        if frame.kind == DATA:
            check(frame.id in self.unfinished, f"DATA goes on with a REPLY: {frame}")
            reply = self.unfinished.pop(frame.id)
            reply.payload += frame.payload
        if frame.flags & MORE:
            self.unfinished[frame.id] = reply
            return
        reply.flags &= ~MORE
        check(reply.length in (0, len(reply.payload)), f"a message is as long as announced, {reply.length}: {reply}")
        self.open.remove(frame.id)
        self.replies[frame.id] = reply


def dial(address):
    """Connects to an address as the server prints it."""
    if address.startswith("unix:"):
        stream = socket.socket(socket.AF_UNIX)
        stream.settimeout(LIMIT)
        stream.connect(address.removeprefix("unix:"))
        return stream
    host, port = address.removeprefix("tcp://").rsplit(":", 1)
    return socket.create_connection((host, int(port)), LIMIT)
