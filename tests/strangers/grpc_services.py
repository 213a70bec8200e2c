#!/usr/bin/env python3
"""Python's grpcio asks the demo server for its health, and finds out by reflection what it serves.

Usage: grpc_services.py DEMO_SERVER, with grpcio-health-checking and grpcio-reflection installed. It starts the server on a free port, knows none of
its .proto files, and calls it all the same. It says each thing that it has seen.
"""

import subprocess
import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def check(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ["", "demo.kv.v1.Kv"]:
        reply = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        assert reply.status == SERVING, reply
    try:
        health.Check(health_pb2.HealthCheckRequest(service="none"), timeout=10)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
    else:
        raise AssertionError("there is no such service")
    watch = health.Watch(health_pb2.HealthCheckRequest(service="none"), timeout=60)
    assert next(watch).status == SERVICE_UNKNOWN
    watch.cancel()


def reflection(channel):
    database = ProtoReflectionDescriptorDatabase(channel)
    services = list(database.get_services())
    assert "demo.kv.v1.Kv" in services and "grpc.health.v1.Health" in services, services
    pool = DescriptorPool(database)
    method = pool.FindServiceByName("demo.kv.v1.Kv").FindMethodByName("rpc_ping")
    request = GetMessageClass(method.input_type)(text="hello")
    reply = channel.unary_unary(
        "/demo.kv.v1.Kv/rpc_ping",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )(request, timeout=10)
    assert reply.text == "hello", reply
    options = pool.FindMessageTypeByName("google.protobuf.MethodOptions")
    assert pool.FindExtensionByNumber(options, 72390).full_name == "rpc.procedure"
    assert list(database.FindAllExtensionNumbers("google.protobuf.MethodOptions")) == [72390]


def drain(channel, server):
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
    assert next(watch).status == SERVING
    server.terminate()
    assert next(watch).status == NOT_SERVING
    try:
        next(watch)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAVAILABLE, error
    else:
        raise AssertionError("a drain ends the call")
    assert server.wait(timeout=60) == 0


def main():
    server = subprocess.Popen([sys.argv[1], "--listen", "tcp://127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split("tcp://")[1].strip()
        with grpc.insecure_channel(address) as channel:
            check(channel)
            print("grpcio-health-checking: check and watch: as it should be")
            reflection(channel)
            print("grpcio-reflection: a call without .proto files: as it should be")
            drain(channel, server)
            print("grpcio-health-checking: a drain tells those who watch")
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
