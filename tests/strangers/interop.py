#!/usr/bin/env python3
"""grpc-go's interoperability client calls our server of the cases.

Usage: interop.py INTEROP_SERVER GO_CLIENT
"""

import re
import sys

import serving

CASES = """
empty_unary large_unary client_streaming server_streaming ping_pong empty_stream custom_metadata status_code_and_message
special_status_message unimplemented_method unimplemented_service cancel_after_begin cancel_after_first_response
timeout_on_sleeping_server pick_first_unary
""".split()
# The client only prints how a soak went.
SOAKS = {"rpc_soak": 1000, "channel_soak": 200}
RAN = re.compile(r"soak test successes: (\d+) / (\d+) iterations. Total failures: (\d+)")


def case(client, server, name, *options):
    process = serving.run(client, "--server_host=127.0.0.1", f"--server_port={server.port}", f"--test_case={name}", *options, limit=120)
    if process.returncode:
        sys.exit(f"error: grpc-go's client fails {name}:\n{process.stdout}{process.stderr}")
    return process.stdout + process.stderr


def soak(client, server, name, count):
    seconds = 100
    options = [f"--soak_iterations={count}", f"--soak_overall_timeout_seconds={seconds}"]
    # The case is not about speed.
    output = case(client, server, name, *options, f"--soak_per_iteration_max_acceptable_latency_ms={seconds * 1000}")
    ran = RAN.search(output)
    if not ran or ran.groups() != (str(count), str(count), "0"):
        sys.exit(f"error: grpc-go's client fails {name}:\n{output[-2000:]}")


def main():
    program, client = sys.argv[1:]
    with serving.Server(program) as server:
        for name in CASES:
            case(client, server, name)
        for name, count in SOAKS.items():
            soak(client, server, name, count)
        server.drain()
        assert server.exit_code() == 0
    print(f"grpc-go's interop client: {len(CASES)} cases pass, {', '.join(f'{name} of {count} calls' for name, count in SOAKS.items())}")


if __name__ == "__main__":
    main()
