#!/usr/bin/env python3
"""Python's grpcio calls the demo server.

Usage: grpc_python.py DEMO_SERVER, with grpcio and grpcio-tools installed. It makes stubs of proto/kv.proto, starts the server on a free
port and then at a Unix socket, and makes calls of all kinds. It says each thing that it has seen.
"""

import sys
import tempfile
import threading
from pathlib import Path

import grpc
from grpc_tools import protoc

import serving


def make_stubs(folder):
    """Makes Python modules of the demo's .proto files."""
    sources = [*serving.PROTOS, Path(protoc.__file__).parent / "_proto"]
    paths = [f"-I{source}" for source in sources]
    status = protoc.main(["protoc", *paths, f"--python_out={folder}", f"--grpc_python_out={folder}", "kv.proto", "rpc/options.proto"])
    assert status == 0, "protoc failed"
    sys.path.insert(0, folder)
    import kv_pb2
    import kv_pb2_grpc

    return kv_pb2, kv_pb2_grpc


def fails(call):
    """Returns the error of a call that must fail."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call did not fail")


def unary(kv, stub):
    stub.rpc_update(kv.UpdateRequest(key="dog", value=b"woof"), timeout=10)
    assert stub.rpc_fetch(kv.FetchRequest(key="dog"), timeout=10).value == b"woof"
    assert not stub.rpc_fetch(kv.FetchRequest(key="cat"), timeout=10).HasField("value")
    long = b"x" * 3_000_000
    stub.rpc_update(kv.UpdateRequest(key="long", value=long), timeout=60)
    assert stub.rpc_fetch(kv.FetchRequest(key="long"), timeout=60).value == long


def compressed(kv, stub):
    text = "text" * 10_000
    reply = stub.rpc_ping(kv.PingRequest(text=text), timeout=10, compression=grpc.Compression.Gzip)
    assert reply.text == text


def errors(kv, stub):
    error = fails(lambda: stub.rpc_update(kv.UpdateRequest(), timeout=10))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
    assert error.details() == "a key has 1 to 256 bytes, this one has 0", error
    assert any(key == "grpc-status-details-bin" for key, _ in error.trailing_metadata())
    error = fails(lambda: stub.rpc_sleep(kv.SleepRequest(millis=60_000), timeout=0.05))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    error = fails(lambda: stub.rpc_update(kv.UpdateRequest(key="k", value=b"x" * 5_000_000), timeout=60))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error


def streams(kv, stub):
    entries = (kv.UpdateRequest(key=f"key{number}", value=b"v") for number in range(1000))
    assert stub.rpc_import(entries, timeout=60).entries == 1000
    turns = []
    answered = threading.Semaphore(1)

    def commands():
        for value in [b"1", b"2", b"3"]:
            assert answered.acquire(timeout=60)
            yield kv.Command(key="turn", value=value)

    for answer in stub.rpc_session(commands(), timeout=60):
        turns.append(answer.before)
        answered.release()
    assert turns == [b"", b"1", b"2"], turns
    watch = stub.rpc_watch(kv.WatchRequest(prefix="key"), timeout=60)
    assert len([next(watch) for _ in range(1000)]) == 1000
    watch.cancel()


def calls_of_all_kinds(kv, kv_grpc, server, transport):
    with grpc.insecure_channel(server.address) as channel:
        stub = kv_grpc.KvStub(channel)
        for check in [unary, compressed, errors, streams]:
            check(kv, stub)
            print(f"grpcio over {transport}: {check.__name__}: as it should be")
        # A drain ends a stream well, and then the connection.
        watch = stub.rpc_watch(kv.WatchRequest(prefix="dog"), timeout=60)
        next(watch)
        server.drain()
        assert list(watch) == [] and watch.code() == grpc.StatusCode.OK, watch
        assert server.exit_code() == 0
        print(f"grpcio over {transport}: a drain ends a stream well")


def main():
    with tempfile.TemporaryDirectory() as folder:
        kv, kv_grpc = make_stubs(folder)
        for transport, listen in {"TCP": "tcp://127.0.0.1:0", "a Unix socket": f"unix:{folder}/kv.sock"}.items():
            with serving.demo(sys.argv[1], listen) as server:
                calls_of_all_kinds(kv, kv_grpc, server, transport)


if __name__ == "__main__":
    main()
