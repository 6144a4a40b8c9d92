"""A ledger in this process behind the server of enclaves, over real TLS: for clients that bring their own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

from kluis.enclave.asgi import Server
from kluis.serve.ledger.log import LedgerLog
from kluis.services.ledger.app import LedgerApplication
from tests.services.ledger.world import World


@contextlib.contextmanager
def listening(world: World) -> Iterator[str]:
    """Serve a ledger, while the ``with`` lasts; gives its address."""
    with LedgerLog(world.folder) as log, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        node = world.node(log)
        address = f"localhost:{listener.getsockname()[1]}"
        node.begin(address)
        server = Server(LedgerApplication(node, log, world.clock), identity=node.shown)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(listener)))
        thread.start()
        try:
            yield f"https://{address}"
        finally:
            server.drain(5.0)
            thread.join(60)
