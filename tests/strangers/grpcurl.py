#!/usr/bin/env python3
"""grpcurl calls the demo server: each kind of call, by the server's .proto file and then by its reflection, which it also lists and describes.

Usage: grpcurl.py DEMO_SERVER GRPCURL
"""

import base64
import json
import shlex
import subprocess
import sys
import tempfile

import serving


# What makes grpcurl read the .proto file. Without it, it asks the server.
BY_FILE = [*(part for folder in serving.PROTOS for part in ("-import-path", folder)), "-proto", "kv.proto"]


class Grpcurl:
    def __init__(self, program, address, schema):
        self.program, self.address, self.schema = program, address, schema

    def call(self, procedure, *messages, options=()):
        """Makes a call. Returns the process."""
        options = ["-plaintext", *self.schema, "-d", "@", *options]
        stdin = "\n".join(map(json.dumps, messages))
        return serving.run(self.program, *options, self.address, f"demo.kv.v1.Kv/{procedure}", stdin=stdin)

    def replies(self, procedure, *messages):
        """Makes a call that must succeed. Returns its replies."""
        process = self.call(procedure, *messages)
        assert process.returncode == 0, process.stderr
        return list(values(process.stdout))

    def told(self, *question):
        """Asks the server what it serves. Returns the lines of the answer."""
        process = serving.run(self.program, "-plaintext", self.address, *question)
        assert process.returncode == 0, process.stderr
        return process.stdout.splitlines()


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


def check_reflection(kv):
    services = ["demo.kv.v1.Kv", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection", "rpc.inspect.v1.Inspect"]
    assert kv.told("list") == services, kv.told("list")
    procedures = kv.told("list", "demo.kv.v1.Kv")
    assert "demo.kv.v1.Kv.rpc_fetch" in procedures and "demo.kv.v1.Kv.rpc_session" in procedures, procedures
    service = kv.told("describe", "demo.kv.v1.Kv")
    assert "demo.kv.v1.Kv is a service:" in service, service
    assert "  rpc rpc_session ( stream .demo.kv.v1.Command ) returns ( stream .demo.kv.v1.Answer );" in service, service
    message = kv.told("describe", "demo.kv.v1.UpdateRequest")
    assert "  bytes value = 2;" in message, message
    nothing = kv.call("rpc_nothing")
    assert nothing.returncode != 0 and "does not include a method named" in nothing.stderr, nothing
    assert values_of(kv, "grpc.health.v1.Health/Check") == [{"status": "SERVING"}]


def values_of(kv, procedure):
    """Makes a call without a request. Returns its replies."""
    return list(values("\n".join(kv.told(procedure))))


def check_inspection(program, grpcurl, listen, may):
    """Looks into the demo server, which allows that to its own user by a Unix socket."""
    with serving.demo(program, listen) as server:
        call = [grpcurl, "-plaintext", server.address, "rpc.inspect.v1.Inspect/rpc_connections"]
        done = serving.run(*call)
        if may:
            [connection] = json.loads(done.stdout)["connections"]
            assert (connection["side"], connection["protocol"], connection["stage"]) == ("server", "grpc", "open"), connection
        else:
            assert "Code: PermissionDenied" in done.stderr and ".terminate_policy(..)" in done.stderr, done


def check_printed_line(program, grpcurl, listen):
    """Makes the call that the demo server tells its user to make."""
    with subprocess.Popen([program, "--listen", listen], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            mark = "gRPC: grpcurl "
            line = next(line for line in server.stderr if line.startswith(mark))
            done = serving.run(grpcurl, *shlex.split(line.removeprefix(mark)))
            assert json.loads(done.stdout or "null") == {"text": "hello"}, (line, done)
        finally:
            server.kill()


def main():
    program, grpcurl = sys.argv[1:]
    for schema in [BY_FILE, []]:
        with serving.demo(program) as server:
            kv = Grpcurl(grpcurl, server.address, schema)
            check(kv)
            if not schema:
                check_reflection(kv)
            server.drain()
            assert server.exit_code() == 0
    with tempfile.TemporaryDirectory() as folder:
        for listen in ["tcp://127.0.0.1:0", f"unix:{folder}/kv.sock"]:
            check_printed_line(program, grpcurl, listen)
            check_inspection(program, grpcurl, listen, may=listen.startswith("unix:"))
    print("grpcurl: calls of all kinds, by the .proto file and by reflection: as it should be")


if __name__ == "__main__":
    main()
