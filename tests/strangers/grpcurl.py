#!/usr/bin/env python3
"""grpcurl calls the demo server: each kind of call, by the server's .proto file.

Usage: grpcurl.py DEMO_SERVER GRPCURL
"""

import base64
import json
import sys

import serving


class Grpcurl:
    def __init__(self, program, address):
        self.program, self.address = program, address

    def call(self, procedure, *messages, options=()):
        """Makes a call. Returns the process."""
        imports = [part for folder in serving.PROTOS for part in ("-import-path", folder)]
        options = ["-plaintext", *imports, "-proto", "kv.proto", "-d", "@", *options]
        stdin = "\n".join(map(json.dumps, messages))
        return serving.run(self.program, *options, self.address, f"demo.kv.v1.Kv/{procedure}", stdin=stdin)

    def replies(self, procedure, *messages):
        """Makes a call that must succeed. Returns its replies."""
        process = self.call(procedure, *messages)
        assert process.returncode == 0, process.stderr
        return list(values(process.stdout))


def values(text):
    """Yields the JSON values of a text."""
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:]


def encoded(value):
    return base64.b64encode(value).decode()


def check(kv):
    assert kv.replies("rpc_update", {"key": "dog", "value": encoded(b"woof")}) == [{}]
    assert kv.replies("rpc_fetch", {"key": "dog"}) == [{"value": encoded(b"woof")}]
    assert kv.replies("rpc_fetch", {"key": "cat"}) == [{}]
    entries = [{"key": f"key{number}", "value": encoded(b"v")} for number in range(100)]
    assert kv.replies("rpc_import", *entries) == [{"entries": "100"}]
    commands = [{"key": "turn", "value": encoded(value)} for value in (b"1", b"2", b"3")]
    assert kv.replies("rpc_session", *commands) == [{}, {"before": encoded(b"1")}, {"before": encoded(b"2")}]
    # An endless stream: the deadline ends it.
    watch = kv.call("rpc_watch", {"prefix": "key"}, options=["-max-time", "2"])
    assert len(list(values(watch.stdout))) == 100, watch
    assert "DeadlineExceeded" in watch.stderr, watch.stderr
    # A refusal: code, text and details, whose type grpcurl knows from the .proto file.
    refused = kv.call("rpc_update", {})
    assert "Code: InvalidArgument" in refused.stderr, refused.stderr
    assert "a key has 1 to 256 bytes, this one has 0" in refused.stderr, refused.stderr


def main():
    program, grpcurl = sys.argv[1:]
    with serving.demo(program) as server:
        check(Grpcurl(grpcurl, server.address))
        server.drain()
        assert server.exit_code() == 0
    print("grpcurl: calls of all kinds: as it should be")


if __name__ == "__main__":
    main()
