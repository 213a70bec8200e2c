#!/usr/bin/env python3
"""A peer in another language that is called: it prints the one-way requests of its only client.

It prints `listening ADDRESS`. It answers each PING with an account. When the connection has ended, it prints for each SEND its number
of messages and its trace, if it has one, and for each message its id and its bytes in hex. It ends with 0 if all was as docs/reference/wire.md says.
"""

import socket
import sys

from wire import CHARGE, CREDIT, END, FLOOR, LIMIT, MORE, PING, PONG, SEND, Client, Failed, Frame, check, field, requests


class Callee(Client):
    """The side that accepted. It takes one-way requests, and every other request for an error."""

    def __init__(self, stream):
        super().__init__(stream)
        self.last_id = self.received = 0
        self.allowed = FLOOR  # the bytes that the other side may still send, by our HELLO and the credit since then
        self.owed = 0
        self.lines = []  # they are printed at the end, so that no full pipe holds up the connection

    def take(self, frame):
        if frame.kind == SEND and self.server:
            self.take_send(frame)
        elif frame.kind == PING:
            account = field(1, self.last_id) + field(2, self.received) + field(3, self.received)
            self.write(Frame(PONG, payload=field(1, frame.payload) + field(2, account)).encode())
        else:
            super().take(frame)

    def take_send(self, frame):
        check(frame.flags & END and not frame.flags & MORE, f"short one-way requests are whole: {frame}")
        check(frame.id & 1 and frame.id > self.last_id, f"the ids of a client are odd, and above {self.last_id}: {frame}")
        check(self.allowed > 0, f"a SEND without credit: {frame}")
        taken = requests(frame)
        self.lines.append(f"frame {len(taken)}")
        if frame.trace:
            self.lines.append(f"trace {' '.join(frame.trace)}")
        for self.last_id, message in taken:
            self.lines.append(f"{self.last_id} {message.hex()}")
        self.received += len(taken)
        self.grant(len(frame.payload) + CHARGE)

    def grant(self, charge):
        """Returns the charge of a frame, when that and what was not returned before is half of the window."""
        self.allowed -= charge
        self.owed += charge
        if self.owed >= FLOOR // 2:
            self.write(Frame(CREDIT, length=self.owed).encode())
            self.allowed, self.owed = self.allowed + self.owed, 0


def main():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT)
        print(f"listening tcp://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        stream, _ = listener.accept()
    stream.settimeout(LIMIT)
    try:
        callee = Callee(stream)
        callee.end()
        print(*callee.lines, sep="\n")
    except (Failed, OSError) as failed:
        sys.exit(f"FAILED {failed}")


if __name__ == "__main__":
    main()
