#!/usr/bin/env python3
"""What a client in another language finds the demo's server to do: one `ok` line for each rule of docs/reference/wire.md.

The client is wire.py, beside this file. To run both:

    cargo build -p demo-server && python3 tests/wire/peer.py target/debug/demo-server

It ends with 0 if all is as the page says, and else with 1 and the first thing that is not.
"""

import hmac
import os
import ssl
import subprocess
import sys
import tempfile
import threading

from wire import (ABORTED, CALL, CANCEL, DATA, END, FLOOR, LIMIT, MAGIC, MORE, NOT_EXECUTED, PACKED, PING, SEND,
                  MAX_ROW, Account, Client, Failed, Frame, Message, check, field, fixed64, framed, hello, procedure)

OK, CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, PERMISSION_DENIED, RESOURCE_EXHAUSTED = 0, 1, 3, 4, 7, 8
FAILED_PRECONDITION, UNIMPLEMENTED, INTERNAL = 9, 12, 13
DRAIN, PROTOCOL, HELLO_REJECTED = 1, 2, 3
UNKNOWN_PROCEDURE, BAD_PAYLOAD = 1, 2

NOOP, UPDATE, FETCH, ECHO, SLEEP, IMPORT, SESSION, NOBODYS = (
    procedure(f"demo.kv.v1.Kv/rpc_{name}")
    for name in ("noop", "update", "fetch", "ping", "sleep", "import", "session", "nobodys"))
TERMINATE, SETTLE = (procedure(f"rpc.control.v1.Control/rpc_{name}") for name in ("terminate", "settle"))
NO_MESSAGE = b"\x0a\x7f"  # field 1, of 127 bytes that are not there
TEN_MINUTES = field(1, 600_000)  # of sleep: nothing here waits for its end


def expect(reply, code, flags=0, payload=b""):
    """A reply is exactly this; and what went wrong is said in words, too."""
    found = (reply.code, reply.flags, bool(reply.message))
    check(found == (code, flags, code != OK), f"expected code {code} and flags {flags}, found {reply}")
    check(reply.payload == payload, f"expected {len(payload)} bytes, found others: {reply}")


# -- Calls -----------------------------------------------------------------------------------------------------------

def handshake(tcp, unix):
    """HELLO, and a call that did not wait for it"""
    instances = []
    for address in (tcp, unix):
        client = Client(address)
        expect(client.call(ECHO, field(1, "grüße")), OK, payload=field(1, "grüße"))
        found = client.server
        check(found[1] == MAGIC and found[2] <= 1 <= found[3], f"magic and versions: {found}")
        check(FLOOR <= found[4] < 1 << 24 and found[5] > 0, f"max_frame and max_message: {found}")
        check(found[6] >= 16 and found[7] >= FLOOR and found[8] >= FLOOR, f"no less than the floor: {found}")
        check(found[12] and found[13] and found[15], f"instance_id, software, ping_floor_ms: {found}")
        instances.append(found[12])
        client.close()
    check(instances[0] == instances[1], "one run of a server is one instance, on all its addresses")


def update_and_fetch(tcp, _):
    """what was stored comes back, byte for byte"""
    client = Client(tcp)
    every_byte = bytes(range(256))
    expect(client.call(UPDATE, field(1, "dog") + field(2, every_byte)), OK)
    expect(client.call(FETCH, field(1, "dog")), OK, payload=field(1, every_byte))
    expect(client.call(FETCH, field(1, "cat")), OK)
    client.close()


def any_order_of_fields(tcp, _):
    """fields in any order, some of them twice, some of them unknown"""
    client = Client(tcp)
    client.open.add(1)
    client.write(framed(field(15, field(1, "upside")) + fixed64(4, ECHO) + field(3, END) + field(2, 7) + field(2, 1)
                        + field(1, CALL) + field(1000, "unknown") + field(14, 5)))
    expect(client.reply(1), OK, payload=field(1, "upside"))
    client.close()


def fragments(tcp, unix):
    """requests and replies of many fragments, and a reply that is longer than we take"""
    value = os.urandom(1 << 20)
    for address in (tcp, unix):
        client = Client(address)
        client.until(lambda: client.server, "HELLO")
        expect(client.call(UPDATE, field(1, "much") + field(2, value)), OK)
        client.fragments = 0
        expect(client.call(FETCH, field(1, "much")), OK, payload=field(1, value))
        check(client.fragments > len(value) // FLOOR, f"frames of no more than 64 KiB: {client.fragments}")
        expect(client.call(UPDATE, field(1, "too much") + field(2, value * 3)), OK)
        expect(client.call(FETCH, field(1, "too much")), RESOURCE_EXHAUSTED)
        client.close()


def packed_frames(tcp, unix):
    """packed frames of a stream: credit for more of them, replies in order, and those that lie break their call alone"""
    for address in (tcp, unix):
        client = Client(address)
        # More than the window, which comes back; and the last row is as long as any may be.
        call = client.stream(IMPORT)
        rows = [[field(1, f"row {row}") + field(2, os.urandom(90))] * 100 for row in range(20)]
        for requests in rows:
            client.put(call, requests)
        client.put(call, [field(1, "last") + field(2, bytes(MAX_ROW - 15))])
        client.finish(call)
        expect(client.reply(call), OK, payload=field(1, 2001))
        call = client.stream(SESSION)
        client.put(call, [field(1, address) + field(2, str(step)) for step in range(50)])
        client.finish(call)
        expect(client.reply(call), OK)
        answers = [Message(answer)[1] for answer in client.streams[call].read]
        check(answers == [0] + [str(step).encode() for step in range(49)], f"the values before: {answers}")
        for name, code, lie in [
            ("no message", INTERNAL, Frame(DATA, flags=PACKED)),
            ("a message that reaches past the end", INTERNAL, Frame(DATA, flags=PACKED, payload=b"\x04dog")),
            ("a length that is cut off", INTERNAL, Frame(DATA, flags=PACKED, payload=b"\0\x80")),
            ("too long", RESOURCE_EXHAUSTED, Frame(DATA, flags=PACKED, payload=bytes(MAX_ROW + 1))),
            ("a fragment", INTERNAL, Frame(DATA, flags=PACKED | MORE, length=9, payload=b"\x03dog")),
        ]:
            lie.id = client.stream(IMPORT)
            client.write(lie.encode())
            reply = client.reply(lie.id)
            expect(reply, code)
            print(f"     {name}: {reply.message.decode()}")
        expect(client.call(NOOP), OK)
        client.close()


def refusals(tcp, _):
    """an unknown procedure, a bad payload, a wrong length, too many bytes, and a refusal with details"""
    client = Client(tcp)
    expect(client.call(NOBODYS), UNIMPLEMENTED, NOT_EXECUTED)
    expect(client.call(ECHO, NO_MESSAGE), INTERNAL, NOT_EXECUTED)
    refused = client.call(UPDATE, field(1, "k" * 300))
    expect(refused, INVALID_ARGUMENT)
    check(refused.details == field(1, "k" * 300) + field(2, 256), "the details are a KeyRefused")
    for length, data in (2, b"more"), (9, b"less"):
        client.next_id, call = client.next_id + 2, client.next_id
        client.open.add(call)
        client.write(Frame(CALL, call, MORE | END, NOOP, length=length, payload=data[:1]).encode())
        client.write(Frame(DATA, call, payload=data[1:]).encode())
        expect(client.reply(call), INTERNAL, NOT_EXECUTED)
    # The first fragment says that it is too much: a client of good manners would not have written that one either.
    call, frames = client.request(CALL, UPDATE, bytes(client.server[5] + 1))
    client.open.add(call)
    client.write(frames[0])
    expect(client.reply(call), RESOURCE_EXHAUSTED, NOT_EXECUTED)
    expect(client.call(NOOP), OK)
    client.close()


def deadline(tcp, _):
    """a deadline that passes while the handler runs"""
    client = Client(tcp)
    expect(client.call(SLEEP, TEN_MINUTES, timeout_us=500_000), DEADLINE_EXCEEDED, ABORTED)
    client.close()


def overtake_and_cancel(tcp, _):
    """a quick call overtakes a slow one, which is cancelled and has one reply all the same"""
    client = Client(tcp)
    slow, quick = client.start(SLEEP, TEN_MINUTES, timeout_us=0), client.start(ECHO, field(1, "quick"))
    expect(client.reply(quick), OK, payload=field(1, "quick"))
    check(list(client.replies) == [quick], f"only the quick one is over: {list(client.replies)}")
    client.cancel(slow)
    cancelled = client.reply(slow)
    check(cancelled.code == CANCELLED and not cancelled.payload, f"cancelled: {cancelled}")
    client.cancel(slow)  # It is over, so this is dropped; the client would not take a second reply.
    expect(client.call(NOOP), OK)
    client.close()


# -- One-way requests ------------------------------------------------------------------------------------------------

def settled(client):
    """The account, when no SEND waits or runs any more. The call is there because there is a floor for bare PINGs."""
    while (account := client.barrier()).waiting():
        expect(client.call(NOOP), OK)
    return account


def sends_and_their_account(tcp, _):
    """SENDs, and the account of them in a PONG"""
    client = Client(tcp)
    for value in (b"1", b"2", b"3"):
        client.send(UPDATE, field(1, "count") + field(2, value))
    account = client.barrier()
    check((account.received, account.last_id) == (3, 5), f"three are received: {vars(account)}")
    # A call sees what the SENDs before it did.
    expect(client.call(FETCH, field(1, "count")), OK, payload=field(1, b"3"))
    client.send(NOBODYS)
    client.send(ECHO, NO_MESSAGE)
    client.send(UPDATE, field(2, "no key"))
    account = settled(client)
    check((account.received, account.handled, account.failed, account.expired) == (6, 3, 1, 0), vars(account))
    check(account.dropped == {UNKNOWN_PROCEDURE: 1, BAD_PAYLOAD: 1}, f"dropped, by reason: {account.dropped}")
    client.close()


def packed_sends(tcp, unix):
    """packed SENDs: each message is a request with an id and an end of its own, and the frame is charged once"""
    for address in (tcp, unix):
        client = Client(address)
        client.send_packed(UPDATE, [field(1, f"packed {number}") + field(2, str(number)) for number in range(100)])
        client.send(UPDATE, field(1, "behind") + field(2, "1"))
        account = client.barrier()
        check((account.received, account.last_id) == (101, 201), f"each has an id of its own: {vars(account)}")
        client.send_packed(UPDATE, [field(1, "packed"), field(2, "no key"), NO_MESSAGE, field(1, "packed")])
        client.send_packed(NOBODYS, [b"", b""])
        client.send_packed(NOOP, [b""] * 5000)
        last = client.next_id - 2
        account = settled(client)
        check((account.received, account.last_id) == (5107, last), f"received: {vars(account)}")
        check((account.handled, account.failed) == (5103, 1), f"each ends by itself: {vars(account)}")
        check(account.dropped == {UNKNOWN_PROCEDURE: 2, BAD_PAYLOAD: 1}, f"dropped, by reason: {account.dropped}")
        for number in (0, 57, 99):
            expect(client.call(FETCH, field(1, f"packed {number}")), OK, payload=field(1, str(number)))
        # Twice the window, in the longest rows that there may be.
        window = client.server[8]
        longest = [field(1, "packed") + field(2, bytes(500))] * (MAX_ROW // 520)
        while client.charged < 2 * window:
            client.send_packed(UPDATE, longest)
        check(settled(client).dropped == account.dropped, "none came without credit")
        client.until(lambda: client.charged - client.granted < window // 2, "a grant of all but half a window")
        client.close()


def settle(tcp, _):
    """settle: its reply is behind the end of the SENDs before it, and is the account"""
    client = Client(tcp)
    client.send(SLEEP, field(1, 200))
    client.send(UPDATE, field(2, "no key"))
    reply = client.call(SETTLE)
    expect(reply, OK, payload=field(1, 2) + field(2, 1) + field(3, 1))
    check(client.barrier().waiting() == 0, "none is left")
    client.close()


def depth(tcp, _):
    """a call that is inside of 16 others is taken, and one inside of 17 is not"""
    client = Client(tcp)
    refused = RESOURCE_EXHAUSTED, NOT_EXECUTED
    for depth, (code, flags) in (16, (OK, 0)), (17, refused), (2**32 - 1, refused):
        client.next_id, call = client.next_id + 2, client.next_id
        client.open.add(call)
        client.write(Frame(CALL, call, END, NOOP, depth=depth).encode())
        expect(client.reply(call), code, flags)
    client.close()


def traces(tcp, _):
    """a call of a trace, and calls whose trace is invalid, too long, or no text at all"""
    client = Client(tcp)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for trace in [(parent, "vendor=1", "tenant=acme"), ("", "", "tenant=acme"), ("00-0-0-0", "=", ",;"),
                  (parent.upper(), "a=1"), (b"\xff" * 55, b"\xff", b"\xff"), (parent, "a=1," * 5000, "a=1," * 5000)]:
        client.next_id, call = client.next_id + 2, client.next_id
        client.open.add(call)
        client.write(Frame(CALL, call, END, NOOP, trace=trace).encode())
        expect(client.reply(call), OK)
    client.close()


def credit(tcp, _):
    """SENDs of twice the window: credit comes back as they are handled"""
    client = Client(tcp)
    client.until(lambda: client.server, "HELLO")
    window = client.server[8]
    while client.charged < 2 * window:
        client.send(UPDATE, field(1, "credit") + field(2, bytes(200_000)))
    account = settled(client)
    check(account.handled == account.received, f"all are handled: {vars(account)}")
    client.until(lambda: client.charged - client.granted < window // 2, "a grant of all but half a window")
    client.close()


# -- Errors of the connection ----------------------------------------------------------------------------------------

def unknown_kinds_from_64_on(tcp, _):
    """unknown kinds from 64 on are ignored"""
    client = Client(tcp)
    client.write(Frame(64, payload=b"?").encode() + Frame(70_000, 99, payload=b"?").encode())
    expect(client.call(NOOP), OK)
    client.close()


def protocol_errors(tcp, _):
    """frames that the protocol does not allow: GOAWAY PROTOCOL, then the end"""
    call = Frame(CALL, 5, END, NOOP).encode()
    for name, last_id, data in [
        ("unknown critical kind", 0, Frame(11).encode()),
        ("no kind", 0, Frame(0, 1).encode()),
        ("id that goes backwards", 5, call + Frame(CALL, 3, END, NOOP).encode()),
        ("id that was there before", 5, call + Frame(SEND, 5, END, NOOP).encode()),
        ("id of the other side", 0, Frame(CALL, 6, END, NOOP).encode()),
        ("frame for a call that never was", 5, call + Frame(CANCEL, 9).encode()),
        ("SEND without END", 0, Frame(SEND, 1, 0, NOOP).encode()),
        ("packed SEND without a message", 0, Frame(SEND, 1, END | PACKED, NOOP).encode()),
        ("packed SEND whose message reaches past its end", 5,
         call + Frame(SEND, 7, END | PACKED, NOOP, payload=b"\x04dog").encode()),
        ("packed SEND that is too long", 0, Frame(SEND, 1, END | PACKED, NOOP, payload=bytes(MAX_ROW + 1)).encode()),
        ("packed SEND with MORE", 0, Frame(SEND, 1, END | PACKED | MORE, NOOP, length=9, payload=b"\x03dog").encode()),
        ("packed SEND without END", 0, Frame(SEND, 1, PACKED, NOOP, payload=b"\x03dog").encode()),
        ("PING of 3 bytes", 0, Frame(PING, payload=b"abc").encode()),
        ("second HELLO", 0, hello()),
        ("frame that cannot be parsed", 0, framed(b"\x08")),
        ("frame that is too long", 0, b"\x00\xff\xff\xff"),
    ]:
        client = Client(tcp)
        client.open.add(5)  # It may have its reply, or not: the connection is broken.
        client.write(data)
        goaways = client.end()
        check([(goaway[1], goaway[2]) for goaway in goaways] == [(PROTOCOL, last_id)], f"{name}: {goaways}")
        check(goaways[0][3], f"{name}: GOAWAY says what was wrong")
        print(f"     {name}: {goaways[0][3].decode()}")


def rejected_hellos(tcp, unix):
    """what is no HELLO of ours: GOAWAY, then the end, and nothing was executed"""
    for name, reason, first in [
        ("another magic", HELLO_REJECTED, hello(magic=1)),
        ("versions 2 to 3", HELLO_REJECTED, hello(versions=(2, 3))),
        ("frames below the floor", HELLO_REJECTED, hello(max_frame=FLOOR - 1)),
        ("65 entries", HELLO_REJECTED, hello(metadata=[(f"k{i}", "") for i in range(65)])),
        ("entries of more than 8 KiB", HELLO_REJECTED, hello(metadata=[("k", "v" * 8192)])),
        ("SSH", HELLO_REJECTED, b"SSH-2.0-OpenSSH_9.2\r\n" + bytes(16)),
        ("TLS", HELLO_REJECTED, client_hello()),
        ("no HELLO", PROTOCOL, Frame(PING, payload=b"too soon").encode()),
    ]:
        for address in (tcp, unix):
            # No call is open, so the client would not take a reply of this one.
            goaways = Client(address, first + Frame(CALL, 1, END, NOOP).encode()).end()
            check([(goaway[1], goaway[2]) for goaway in goaways] == [(reason, 0)], f"{name}: {goaways}")
        print(f"     {name}: {goaways[0][3].decode()}")
    update_and_fetch(tcp, unix)


def client_hello():
    """The bytes with which TLS begins."""
    sent = ssl.MemoryBIO()
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), sent, server_hostname="kv").do_handshake()
    except ssl.SSLWantReadError:
        return sent.read()


# -- The end ---------------------------------------------------------------------------------------------------------

def key_of(client):
    """The key of the server, from its file, which only its own user can read."""
    name = client.server[12].hex() + ".key"
    folders = [f"{tempfile.gettempdir()}/rpc-runtime-{os.getuid()}"]
    if "XDG_RUNTIME_DIR" in os.environ:
        folders.insert(0, os.environ["XDG_RUNTIME_DIR"] + "/rpc-runtime")
    for path in (os.path.join(folder, name) for folder in folders):
        if os.path.exists(path):
            check(os.stat(path).st_mode & 0o777 == 0o600, f"only its user may read {path}")
            with open(path, "rb") as file:
                return file.read()
    raise Failed(f"no {name} is in {folders}")


def proof(key, client):
    return hmac.new(key, b"rpc terminate v1" + client.server[12] + client.server[16], "sha256").digest()


def terminate_needs_a_proof(tcp, unix):
    """over loopback, a terminate proves that its caller can read the server's key; other proofs are refused"""
    client, other = Client(tcp), Client(tcp)
    for each in (client, other):
        expect(each.call(NOOP), OK)
    key, challenges = key_of(client), {client.server[16], other.server[16]}
    check(len(challenges) == 2 and all(len(one) == 16 for one in challenges), f"each connection has its own: {challenges}")
    right = proof(key, client)
    near = bytes([*right[:-1], right[-1] ^ 1])
    for wrong in (b"", b"?", key, near, right[:-1], right + b"?", proof(bytes(32), client), proof(key, other)):
        reply = client.call(TERMINATE, field(1, client.server[12]) + field(3, wrong))
        expect(reply, PERMISSION_DENIED, NOT_EXECUTED)
    reply = client.call(TERMINATE, field(1, os.urandom(16)) + field(3, right))
    expect(reply, FAILED_PRECONDITION, NOT_EXECUTED)
    local = Client(unix)
    expect(local.call(NOOP), OK)
    check(not local.server[16], "a Unix socket tells the user of a peer, so there is no challenge")
    for each in (client, other, local):
        each.close()


def terminate(tcp, _):
    """terminate: GOAWAY, PING, GOAWAY, the replies of what was open, the report, the last account, then the end"""
    client = Client(tcp)
    expect(client.call(NOOP), OK)
    right = proof(key_of(client), client)
    for value in (b"1", b"2"):  # nobody asks what becomes of them
        client.send(UPDATE, field(1, "count") + field(2, value))
    client.send(NOBODYS)
    short, long = client.start(SLEEP, field(1, 100)), client.start(SLEEP, TEN_MINUTES, timeout_us=0)
    last = client.start(TERMINATE, field(1, client.server[12]) + field(3, right), timeout_us=0)
    client.until(lambda: client.goaways, "the first GOAWAY")
    client.until(lambda: len(client.goaways) == 2, "the second GOAWAY")
    check(client.pings == 1, f"a PING is between the two: {client.pings}")
    first, second = client.goaways
    check((first[1], first[2]) == (DRAIN, 2**63 - 1) and first[4], f"DRAIN, and how long it may take: {first}")
    check((second[1], second[2]) == (DRAIN, last), f"DRAIN, and the highest id that was read: {second}")
    # Above the last id: dropped without a reply. What was open before has its time, and its caller may shorten it.
    client.write(Frame(CALL, last + 2, END, NOOP).encode())
    expect(client.reply(short), OK)
    client.cancel(long)
    client.end()
    check([(goaway[1], goaway[2]) for goaway in client.goaways[2:]] == [(DRAIN, last)], f"one more: {client.goaways}")
    account = Account(client.goaways[2][6])
    check((account.received, account.handled, account.dropped) == (3, 2, {UNKNOWN_PROCEDURE: 1}), vars(account))
    check(list(client.replies)[-2:] == [long, last], f"the report is the last reply: {list(client.replies)}")
    report = Message(client.replies[last].payload)
    check(client.replies[last].code == OK and report[1] >= 1 and report[5] == 1, f"a clean report: {report}")


CHECKS = [handshake, update_and_fetch, any_order_of_fields, fragments, packed_frames, refusals, deadline, overtake_and_cancel,
          sends_and_their_account, packed_sends, settle, depth, traces, credit, unknown_kinds_from_64_on, protocol_errors,
          rejected_hellos, terminate_needs_a_proof, terminate]


def run(server):
    tcp, unix = (server.stdout.readline().strip().removeprefix("listening ") for _ in range(2))
    check(tcp.startswith("tcp://") and unix.startswith("unix:"), f"two `listening` lines, not {tcp!r}, {unix!r}")
    for each in CHECKS:
        try:
            each(tcp, unix)
        except (Failed, OSError) as error:
            raise Failed(f"{each.__name__}: {error}") from error
        print(f"ok   {each.__doc__}", flush=True)
    check(server.wait(LIMIT) == 0, f"the server ends with 0, not {server.returncode}")
    check(not os.path.exists(unix.removeprefix("unix:")), "the socket's file is removed")
    print("ok   the server has ended")


def main(binary):
    with tempfile.TemporaryDirectory() as folder:
        # Policy `local`: processes of the same user may terminate, and this is one.
        command = [binary, "--listen", "tcp://127.0.0.1:0", "--listen", f"unix:{folder}/kv.sock", "--terminate", "local"]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        # Every wait here is one for the server, so this bounds all of them together.
        watchdog = threading.Timer(LIMIT, server.kill)
        watchdog.start()
        try:
            run(server)
        except Failed as failed:
            sys.exit(f"FAILED {failed}")
        finally:
            watchdog.cancel()
            server.kill()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
