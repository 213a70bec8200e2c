#!/usr/bin/env python3
"""Python's grpcio and our client call the demo server through nginx, also while nginx takes a new configuration. grpcio sends tokens through it.

Usage: nginx.py DEMO_SERVER KV_OVER_TLS NGINX COMMAND..., with grpcio, grpcio-tools and openssl installed. The configurations are those of
docs/how-to/behind-nginx.md. COMMAND is the test of our client.
"""

import concurrent.futures
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import grpc

import grpc_python
import serving

PAGE = serving.ROOT / "docs/how-to/behind-nginx.md"
RELOADS = 5


def of_page():
    """Returns the two configurations of the page: a whole one, and what it may have in place of `grpc_pass`."""
    found = re.findall(r"^( *)```nginx\n(.*?)^\1```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    whole, to_tls = [text for _, text in found]
    return whole, to_tls


def changed(text, changes):
    """Returns a configuration for other addresses and files."""
    for before, after in changes.items():
        assert before in text, f"{PAGE} does not say {before}"
        text = text.replace(before, after)
    return text


def around(folder, servers):
    """Returns a whole file: what the page says nothing of, around `servers`."""
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
    {servers}
}}
"""


def places(folder, ports):
    """Where nginx listens and has its files, in place of what the page says."""
    return {
        "listen 80 ": f"listen 127.0.0.1:{ports['PLAIN']} ",
        "listen 443 ": f"listen 127.0.0.1:{ports['TLS']} ",
        "/etc/nginx/kv": f"{folder}/kv",
    }


def configuration(folder, ports, target, other):
    page = changed(of_page()[0], {"127.0.0.1:5005": target, **places(folder, ports)})
    # What the page says of other settings.
    return around(
        folder,
        f"""
    {page}
    upstream two {{
        server {target};
        server {other};
        keepalive 16;
    }}
    server {{
        listen 127.0.0.1:{ports['TWO']} http2;
        location / {{ grpc_pass grpc://two; }}
    }}
    server {{
        listen 127.0.0.1:{ports['DEFAULTS']} http2;
        location / {{ grpc_pass grpc://{target}; }}
    }}
    server {{
        listen 127.0.0.1:{ports['SLOW']} http2;
        location / {{ grpc_pass grpc://{target}; grpc_read_timeout 1s; }}
    }}
    server {{
        listen 127.0.0.1:{ports['QUIET']} http2;
        location / {{ grpc_pass grpc://{target}; client_body_timeout 1s; }}
    }}
    server {{
        listen 127.0.0.1:{ports['DEAD']} http2;
        location / {{ grpc_pass grpc://127.0.0.1:{ports['NOBODY']}; }}
    }}
""",
    )


def certificates(folder):
    """Makes a CA, and the certificate of the page."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    ca = ["-x509", *key, "-subj", "/CN=ca", "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem"]
    leaf = ["-x509", *key, "-subj", "/CN=kv", "-keyout", f"{folder}/kv.key", "-out", f"{folder}/kv.pem"]
    leaf += ["-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]
    leaf += ["-addext", "subjectAltName=DNS:kv.example", "-addext", "extendedKeyUsage=serverAuth"]
    for arguments in [ca, leaf]:
        subprocess.run(["openssl", "req", *arguments], check=True, capture_output=True)


def our_client(command, nginx, server, ports, folder):
    """Runs the test of our client."""
    addresses = {f"RPC_NGINX_{name}": f"127.0.0.1:{port}" for name, port in ports.items()}
    environment = {**os.environ, **addresses, "RPC_NGINX_CA": f"{folder}/ca.pem", "RPC_NGINX_PID": str(nginx.pid)}
    environment["RPC_NGINX_SETTINGS"] = f"{folder}/nginx.conf"
    environment["RPC_NGINX_SERVER"] = server.address
    environment["RPC_NGINX_SERVER_PID"] = str(server.process.pid)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and " 1 passed" in done.stdout, f"{done.stdout}{done.stderr}"
    print(*[line for line in done.stdout.splitlines() if line.startswith("our client")], sep="\n")


def wait_for(port):
    """Waits until something listens."""
    for _ in range(600):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("nginx does not listen")


def token_arrives(kv, kv_grpc, folder, port, token):
    """Calls by TLS through nginx, with a token. Returns the error, or None."""
    ca = pathlib.Path(folder, "ca.pem").read_bytes()
    options = [("grpc.ssl_target_name_override", "kv.example"), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(ca), options=options) as channel:
        stub = kv_grpc.KvStub(channel)
        try:
            assert stub.rpc_ping(kv.PingRequest(text=token), metadata=[("authorization", f"Bearer {token}")], timeout=60).text == token
        except grpc.RpcError as error:
            return error
    return None


def tokens(kv, kv_grpc, nginx_program, program, folder):
    """The ways of the page to carry tokens: to a server that listens over TLS, and to one at a Unix socket. Over plain TCP none is taken."""
    certificates(folder)
    plain, socket_path = f"127.0.0.1:{serving.free_port()}", f"{folder}/rpc.sock"
    addresses = ["tls://127.0.0.1:0", f"tcp://{plain}", f"unix:{socket_path}"]
    # The server's CA is not the one of nginx.
    inner = f"{folder}/inner"
    os.mkdir(inner)
    with serving.Server(program, inner, "anybody", *addresses) as server:
        whole, to_tls = of_page()
        to_tls = changed(to_tls, {"/etc/nginx/ca.pem": f"{inner}/ca.pem"})
        assert "`server unix:/run/kv/rpc.sock;`" in PAGE.read_text(encoding="utf-8")
        ways = {
            "TLS": {"127.0.0.1:5005": server.address, "grpc_pass grpc://kv;": to_tls},
            "a Unix socket": {"127.0.0.1:5005": f"unix:{socket_path}"},
            "plain TCP": {"127.0.0.1:5005": plain},
        }
        for name, changes in ways.items():
            ports = {name: serving.free_port() for name in ["PLAIN", "TLS"]}
            settings = pathlib.Path(folder, "nginx.conf")
            settings.write_text(around(folder, changed(whole, {**changes, **places(folder, ports)})))
            with serving.running(nginx_program, "-e", f"{folder}/error.log", "-p", folder, "-c", settings):
                wait_for(ports["TLS"])
                error = token_arrives(kv, kv_grpc, folder, ports["TLS"], "a-long-one")
                wrong = token_arrives(kv, kv_grpc, folder, ports["TLS"], "a-wrong-one")
            assert wrong is not None and wrong.code() == grpc.StatusCode.UNAUTHENTICATED, f"{name}: {wrong}"
            if name == "plain TCP":
                assert error is not None and "the token came over plain TCP" in error.details(), f"{name}: {error}"
                print(f"grpcio through nginx: a token is refused that nginx sends over {name}")
            else:
                assert error is None, f"{name}: {error}"
                print(f"grpcio through nginx: a token arrives over {name}, and a wrong one is refused")


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
    program, kv_over_tls, nginx_program, *command = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, serving.demo(program) as server, serving.demo(program) as other:
        kv, kv_grpc = grpc_python.make_stubs(folder)
        certificates(folder)
        ports = {name: serving.free_port() for name in ["PLAIN", "TLS", "DEFAULTS", "SLOW", "QUIET", "TWO", "DEAD", "NOBODY"]}
        settings = pathlib.Path(folder, "nginx.conf")
        settings.write_text(configuration(folder, ports, server.address, other.address))
        with serving.running(nginx_program, "-e", f"{folder}/error.log", "-p", folder, "-c", settings) as nginx:
            wait_for(ports["PLAIN"])
            address = f"127.0.0.1:{ports['PLAIN']}"
            with grpc.insecure_channel(address) as channel:
                stub = kv_grpc.KvStub(channel)
                for check in [grpc_python.unary, grpc_python.compressed, grpc_python.errors, grpc_python.streams]:
                    check(kv, stub)
                    print(f"grpcio through nginx: {check.__name__}: as it should be")
            made = reloads_under_load(nginx, kv, kv_grpc, address)
            print(f"grpcio through nginx: {made} calls without an error during {RELOADS} reloads")
            our_client(command, nginx, server, ports, folder)
        with tempfile.TemporaryDirectory() as other_folder:
            tokens(kv, kv_grpc, nginx_program, kv_over_tls, other_folder)
        # It drains since the test of our client. No handler is left of the calls that were given up.
        assert server.exit_code() == 0
        print("nginx: calls that were given up have ended at the server")


if __name__ == "__main__":
    main()
