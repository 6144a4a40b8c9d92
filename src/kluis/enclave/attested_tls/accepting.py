"""A listening socket in an event loop: waits for clients, and takes them one by one."""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Final

ACCEPT_PAUSE_SECONDS: Final = 0.05


async def pause() -> None:
    """Let others run, and end, even where there is no memory for a timer."""
    try:
        await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
    except MemoryError:
        await asyncio.sleep(0)


async def next_client(listener: socket.socket) -> socket.socket:
    """Accept the next client.

    A task that is cancelled here took none, which the loop's own accept may have.
    """
    while True:
        try:
            return listener.accept()[0]
        except BlockingIOError:
            await readable(listener)


async def readable(listener: socket.socket) -> None:
    """Return when a client waits to be accepted."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.add_reader(listener, _on_done, future)
    try:
        await future
    finally:
        loop.remove_reader(listener)


def has_client(listener: socket.socket) -> bool:
    """Whether a client waits to be accepted."""
    look = select.poll()
    look.register(listener, select.POLLIN)
    return bool(look.poll(0))


def _on_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
