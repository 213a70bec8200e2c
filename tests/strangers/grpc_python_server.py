#!/usr/bin/env python3
"""A Kv server of Python's grpcio, for our client to call.

Usage: grpc_python_server.py, with grpcio and grpcio-tools installed. It prints its port, then the path of its
Unix socket, and serves until its input ends.
"""

import sys
import tempfile
import threading
from concurrent import futures

import grpc
from google.protobuf import empty_pb2

from grpc_python import make_stubs


def main():
    with tempfile.TemporaryDirectory() as folder:
        kv, kv_grpc = make_stubs(folder)

        class Kv(kv_grpc.KvServicer):
            def __init__(self):
                self.values = {}
                # How many handlers of `rpc_sleep` were told that their call is over.
                self.cancelled = 0

            def rpc_noop(self, request, context):
                sent = [(key, value) for key, value in context.invocation_metadata() if key.startswith("x-")]
                context.send_initial_metadata([("x-header", "first")])
                context.set_trailing_metadata(sent)
                return empty_pb2.Empty()

            def rpc_update(self, request, context):
                if not request.key:
                    context.set_trailing_metadata([("grpc-status-details-bin", b"\x08\x03\x12\x03bad")])
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "kein Schlüssel")
                self.values[request.key] = request.value
                return empty_pb2.Empty()

            def rpc_fetch(self, request, context):
                if request.key == "cancelled":
                    return kv.FetchReply(value=str(self.cancelled).encode())
                return kv.FetchReply(value=self.values.get(request.key))

            def rpc_ping(self, request, context):
                return kv.PingReply(text=request.text)

            def rpc_sleep(self, request, context):
                done = threading.Event()

                def over():
                    self.cancelled += 1
                    done.set()

                assert context.add_callback(over)
                done.wait(request.millis / 1000)
                return empty_pb2.Empty()

            def rpc_watch(self, request, context):
                for key, value in sorted(self.values.items()):
                    if key.startswith(request.prefix):
                        yield kv.WatchEvent(key=key, value=value)
                if request.prefix == "broken/":
                    context.abort(grpc.StatusCode.DATA_LOSS, "broken")

            def rpc_import(self, requests, context):
                return kv.ImportReply(entries=sum(1 for _ in requests))

            def rpc_session(self, requests, context):
                for command in requests:
                    yield kv.Answer(before=self.values.get(command.key))
                    self.values[command.key] = command.value

        server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), compression=grpc.Compression.Gzip)
        kv_grpc.add_KvServicer_to_server(Kv(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        path = f"{folder}/kv.sock"
        server.add_insecure_port(f"unix:{path}")
        server.start()
        print(port, path, sep="\n", flush=True)
        for line in sys.stdin:
            if line.strip() == "drain":
                server.stop(grace=30)
                print("draining", flush=True)
        server.stop(grace=None)


if __name__ == "__main__":
    main()
