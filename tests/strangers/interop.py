#!/usr/bin/env python3
"""grpc-go's interoperability client calls our server of the cases, and our client calls grpc-go's server, without TLS and with it.

Usage: interop.py OUR_SERVER OUR_CLIENT GO_SERVER GO_CLIENT TESTDATA

TESTDATA is the folder of grpc-go with a CA, and with a certificate of that CA for servers.
"""

import pathlib
import re
import sys

import serving

# What grpc-go's client is asked.
CASES = """
empty_unary large_unary client_streaming server_streaming ping_pong empty_stream custom_metadata status_code_and_message
special_status_message unimplemented_method unimplemented_service cancel_after_begin cancel_after_first_response
timeout_on_sleeping_server pick_first_unary
""".split()
# It only prints how a soak went.
SOAKS = {"rpc_soak": 1000, "channel_soak": 200}
# The other cases of its option -test_case, and why they are not asked.
GOOGLE = "it takes a key of a service account of Google, which we do not have"
COMPUTE_ENGINE = "the caller has to run in Google's Compute Engine"
LEFT_OUT = {
    "compute_engine_creds": COMPUTE_ENGINE,
    "compute_engine_channel_credentials": COMPUTE_ENGINE,
    "service_account_creds": GOOGLE,
    "jwt_token_creds": GOOGLE,
    "per_rpc_creds": GOOGLE,
    "oauth2_auth_token": GOOGLE,
    "google_default_credentials": GOOGLE,
    "orca_per_rpc": "it asks for ORCA, load reports to xDS' load balancers in a trailer of each call. No service here makes them",
    "orca_oob": "the same reports by a service of their own, xds.service.orca.v3.OpenRcaService, which we do not have",
}
RAN = re.compile(r"soak test successes: (\d+) / (\d+) iterations. Total failures: (\d+)")
# The certificate of the servers is for names like this one.
NAME = "foo.test.google.fr"


def case(client, server, tls, name, *options):
    command = [client, "--server_host=127.0.0.1", f"--server_port={server.port}", f"--test_case={name}", *tls, *options]
    process = serving.run(*command, limit=120)
    if process.returncode:
        sys.exit(f"error: grpc-go's client fails {name}:\n{process.stdout}{process.stderr}")
    return process.stdout + process.stderr


def each_case_is_decided(client):
    """Fails if the client has cases that are neither run nor left out for a reason, or has one no longer."""
    help_text = serving.run(client, "--help").stderr
    options = re.search(r"Valid options are:\n((?:\s+\w+ ?: .*\n)+)", help_text)[1]
    offered = set(re.findall(r"^\s+(\w+) ?: ", options, re.M))
    decided = {*CASES, *SOAKS, *LEFT_OUT}
    # Its help does not name the soaks.
    offered |= SOAKS.keys()
    assert offered == decided, f"grpc-go's client has {sorted(offered - decided)} and has no {sorted(decided - offered)}"


def soak(client, server, tls, name, count):
    seconds = 100
    options = [f"--soak_iterations={count}", f"--soak_overall_timeout_seconds={seconds}"]
    # The case is not about speed.
    output = case(client, server, tls, name, *options, f"--soak_per_iteration_max_acceptable_latency_ms={seconds * 1000}")
    ran = RAN.search(output)
    if not ran or ran.groups() != (str(count), str(count), "0"):
        sys.exit(f"error: grpc-go's client fails {name}:\n{output[-2000:]}")


def their_client(server, client, certificate, tls):
    with serving.Server(server, *certificate) as server:
        for name in CASES:
            case(client, server, tls, name)
        for name, count in SOAKS.items():
            soak(client, server, tls, name, count)
        server.drain()
        assert server.exit_code() == 0
    print(f"grpc-go's client: {len(CASES)} cases pass, {', '.join(f'{name} of {count} calls' for name, count in SOAKS.items())}")


def their_server(server, client, certificate, tls):
    port = serving.free_port()
    with serving.running(server, f"--port={port}", *certificate) as process:
        serving.wait_for(port, process)
        calls = serving.run(client, f"127.0.0.1:{port}", *tls, limit=300)
    if calls.returncode:
        sys.exit(f"error: our client fails at grpc-go's server, behind these cases:\n{calls.stdout}{calls.stderr}")
    passed = calls.stdout.split()
    assert "channel_soak" in passed, calls.stdout
    print(f"grpc-go's server: {len(passed)} cases pass, soaks included")


def main():
    our_server, our_client, go_server, go_client, testdata = sys.argv[1:]
    each_case_is_decided(go_client)
    ca, certificate, key = (str(pathlib.Path(testdata, name)) for name in ["ca.pem", "server1.pem", "server1.key"])
    their_client(our_server, go_client, [], [])
    their_server(go_server, our_client, [], [])
    print("the same over TLS:")
    their_client(our_server, go_client, [certificate, key], ["--use_tls", "--use_test_ca", f"--ca_file={ca}", f"--server_host_override={NAME}"])
    their_server(go_server, our_client, ["--use_tls", f"--tls_cert_file={certificate}", f"--tls_key_file={key}"], [ca, NAME])


if __name__ == "__main__":
    main()
