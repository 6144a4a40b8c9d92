"""A console's application and a client of it, without a socket; and a room to show in it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec

from kluis.cleanroom.agreement.agreement import Agreement
from kluis.cleanroom.records.home import Home
from kluis.cleanroom.records.trust import identity_of
from kluis.console.access import Access
from kluis.console.app import build
from kluis.console.state import Console
from kluis.evidence import TrustAnchors
from tests.cleanroom import logs, samples
from tests.cleanroom.platform import Platform

PORT = 8417


class Site:
    """A console and a browser that opened it."""

    def __init__(self, *rooms: Path, parties: Path) -> None:
        self.access = Access(PORT)
        self.console = Console(self.access, rooms, parties, now=lambda: samples.NOW)
        self.app = build(self.console)
        self.cookies: dict[str, str] = {}

    def send(self, method: str, path: str, *, origin: str | None = None, **more: Any) -> httpx.Response:
        """Send one request as it is, with this browser's cookies."""
        headers = {**({"origin": origin} if origin else {}), **more.pop("headers", {})}

        async def run() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url=self.access.origin, cookies=self.cookies
            ) as client:
                return await client.request(method, path, headers=headers, **more)

        return asyncio.run(run())

    def open(self) -> Site:
        """Open the address with the token, and keep the cookie."""
        answer = self.send("GET", self.access.url.removeprefix(self.access.origin))
        assert answer.status_code == 200, answer.text
        self.cookies = dict(answer.cookies)
        return self

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.send("GET", path, headers=headers)

    def post(
        self, path: str, fields: Mapping[str, str] | None = None, files: Mapping[str, bytes] | None = None
    ) -> httpx.Response:
        """Send a form as a page of the console does."""
        data = {"csrf": self.access.form_token, **(fields or {})}
        uploads = {name: (name, content) for name, content in (files or {}).items()}
        return self.send("POST", path, origin=self.access.origin, data=data, files=uploads or None)


class Case:
    """A room with a proposal, and the homes of its two parties on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.platform = Platform(samples.NOW)
        self.setting = samples.setting(folder / "homes", samples.code(root=self.platform.root()))
        (anchor,) = TrustAnchors.from_pem(self.platform.root().encode())
        for home in self.setting.homes.values():
            home.accept_root(identity_of(anchor))
        self.room, self.agreement = logs.agreed_room(folder / "room", self.setting)
        for each in self.agreement.datasets:
            home = self.homes[each.owner]
            kept = home.key(samples.ROOM, each.id, each.version)
            home.keep_key(msgspec.structs.replace(kept, room=self.room.file.room))

    @property
    def homes(self) -> dict[str, Home]:
        return self.setting.homes

    def propose(self, agreement: Agreement) -> Agreement:
        """Propose another agreement; nobody has signed it."""
        self.room.propose(agreement)
        return agreement

    def changed(self, **changes: Any) -> Agreement:
        """The agreement with other fields."""
        return msgspec.structs.replace(self.agreement, **changes)

    def site(self) -> Site:
        """A console of this room that a browser opened."""
        return Site(self.room.path, parties=self.folder / "homes").open()
