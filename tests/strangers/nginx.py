#!/usr/bin/env python3
"""Python's grpcio calls the demo server through nginx, also while nginx takes a new configuration.

Usage: nginx.py DEMO_SERVER NGINX, with grpcio and grpcio-tools installed.
"""

import concurrent.futures
import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading
import time

import grpc

import grpc_python
import serving

RELOADS = 5


def configuration(folder, port, target):
    # Workers of another user could not write into the folder.
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""
{user}
daemon off;
worker_processes 2;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port} http2;
        location / {{
            grpc_pass grpc://{target};
            grpc_read_timeout 120s;
            grpc_send_timeout 120s;
        }}
    }}
}}
"""


def wait_for(port):
    """Waits until something listens."""
    for _ in range(600):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("nginx does not listen")


def reloads_under_load(nginx, kv, kv_grpc, address):
    """Calls by several channels while nginx replaces its workers. Returns how many calls were made; each must succeed."""
    is_over = threading.Event()

    def load(number):
        made = 0
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = kv_grpc.KvStub(channel)
            while not is_over.is_set():
                text = f"{number} {made}"
                assert stub.rpc_ping(kv.PingRequest(text=text), timeout=60).text == text
                made += 1
        return made

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load, number) for number in range(4)]
        try:
            for _ in range(RELOADS):
                time.sleep(1)
                nginx.send_signal(signal.SIGHUP)
            time.sleep(1)
        finally:
            is_over.set()
        return sum(one.result() for one in loads)


def main():
    program, nginx_program = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, serving.demo(program) as server:
        kv, kv_grpc = grpc_python.make_stubs(folder)
        port = serving.free_port()
        settings = pathlib.Path(folder, "nginx.conf")
        settings.write_text(configuration(folder, port, server.address))
        with serving.running(nginx_program, "-e", f"{folder}/error.log", "-p", folder, "-c", settings) as nginx:
            wait_for(port)
            address = f"127.0.0.1:{port}"
            with grpc.insecure_channel(address) as channel:
                stub = kv_grpc.KvStub(channel)
                for check in [grpc_python.unary, grpc_python.compressed, grpc_python.errors, grpc_python.streams]:
                    check(kv, stub)
                    print(f"grpcio through nginx: {check.__name__}: as it should be")
            made = reloads_under_load(nginx, kv, kv_grpc, address)
            print(f"grpcio through nginx: {made} calls without an error during {RELOADS} reloads")


if __name__ == "__main__":
    main()
