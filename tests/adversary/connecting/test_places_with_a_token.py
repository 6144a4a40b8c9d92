"""Another user of the machine, without the token, who takes every place of a proxy."""

from __future__ import annotations

import contextlib
import dataclasses
import time

from kluis.enclave.attested_tls.judge import Judge
from tests.adversary.connecting.test_requests import TOKEN, fields_of, get
from tests.connect.running import PATIENT, running
from tests.enclave.hosted.serving import Served


def test_those_without_the_token_give_way(served: Served, judge: Judge) -> None:
    """A client with the token finds a place, as at an enclave's own server."""
    few = dataclasses.replace(PATIENT, connections=3)
    with running(judge, served.port, limits=few, token=TOKEN) as proxy, contextlib.ExitStack() as idle:
        for _ in range(3):
            idle.enter_context(proxy.connect())
        time.sleep(2)
        assert fields_of(proxy.exchange(get(f"Proxy-Authorization: Bearer {TOKEN}")))
