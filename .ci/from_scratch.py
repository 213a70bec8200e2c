#!/usr/bin/env python3
"""Runs the demo's programs in the folder that is given, in a root folder that holds nothing else, as in an image `FROM scratch`.

It needs the rights to call chroot: root's, or those of a user namespace (`unshare`).
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

LIMIT = 120  # seconds for each program


def main(folder):
    root = pathlib.Path(tempfile.mkdtemp())
    try:
        for name in ("demo-server", "demo-client"):
            program = folder / name
            headers = subprocess.run(["readelf", "--program-headers", program], check=True, capture_output=True, text=True).stdout
            if "INTERP" in headers:
                sys.exit(f"error: {program} needs a dynamic linker")
            shutil.copy(program, root)
        within = ["chroot", root] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "chroot", root]
        # All that the demo shows, with a server inside. It needs a folder for a socket.
        (root / "tmp").mkdir()
        subprocess.run([*within, "/demo-client"], check=True, timeout=LIMIT)
        # The server as in contrib/docker, where there is not even that folder.
        shutil.rmtree(root / "tmp")
        server = subprocess.Popen([*within, "/demo-server", "--listen", "tcp://127.0.0.1:0", "--lame-duck", "1"], stdout=subprocess.PIPE, text=True)
        try:
            address = next(line.split()[1] for line in server.stdout if line.startswith("listening"))
            for call in (["update", "dog", "brown"], ["fetch", "dog"]):
                subprocess.run([*within, "/demo-client", "--connect", address, *call], check=True, timeout=LIMIT)
            server.terminate()
            print(server.stdout.read(), end="")
            if server.wait(timeout=LIMIT):
                sys.exit(f"error: the server ended with {server.returncode}")
        finally:
            if server.poll() is None:
                server.kill()
    finally:
        shutil.rmtree(root)


main(pathlib.Path(sys.argv[1]))
