"""Another user of the machine who opens connections to the development issuer, and sends nothing."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
import time
import urllib.request

SERVED = """
import os, resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from kluis.serve.background import Background

async def live(request):
    return PlainTextResponse("live")

listener = socket.create_server(("127.0.0.1", 0))
with Background(Starlette(routes=[Route("/health/live", live)]), listener):
    print(listener.getsockname()[1], flush=True)
    for line in sys.stdin:
        try:
            with open("/dev/null"):
                print("opened", flush=True)
        except OSError as error:
            print(error.strerror, flush=True)
"""


def test_idle_connections() -> None:
    """They are ended after a while, and leave descriptors to the process, which also runs the services."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most[1]), most[1]))
    served = subprocess.Popen(
        [sys.executable, "-c", SERVED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert served.stdin is not None
    assert served.stdout is not None
    try:
        port = int(served.stdout.readline())
        with contextlib.ExitStack() as idle:
            for _ in range(300):
                idle.enter_context(socket.create_connection(("127.0.0.1", port)))
            time.sleep(15)  # three times the time that a kept connection may be idle
            served.stdin.write("\n")
            opened = served.stdout.readline().strip()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=10) as answer:
                    said = answer.read().decode()
            except OSError as error:
                said = f"{error}"
        assert (opened, said) == ("opened", "live")
    finally:
        served.kill()
        served.communicate()
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
