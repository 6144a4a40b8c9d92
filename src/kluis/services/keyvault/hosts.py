"""Check the name by which a client addresses a vault, before the name is signed or used in links.

Identifiers of keys, links to a list's next page and the statement of a release contain the vault's address as
the client used it: the ``Host`` header, which the client chooses. So it must be one of the vault's configured
names, which are those of its certificate, or loopback, which names nobody else. Any port is allowed: port
forwards have their own. Spec: RFC 9110, "Host and :authority", "421 Misdirected Request".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final

from kluis.services.web import Refusal

_HOST: Final = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_.-]{1,253})(:[0-9]{1,5})?")
_LOCALHOST: Final = re.compile(r"(.+\.)?localhost")


class Hosts:
    """The names of one vault.

    Args:
        names: DNS names and addresses; a leading ``*.`` matches one label.
        url: the vault's fixed URL; None: the name that the client uses, of these.
    """

    def __init__(self, names: tuple[str, ...], url: str | None) -> None:
        self._names = frozenset(name.lower().strip("[]") for name in names)
        self._url = url

    def url(self, headers: Mapping[str, str]) -> str:
        """Scheme and authority of the vault for one request, in lower case.

        Raises:
            Refusal: 421: the client uses a name that is not configured.
        """
        if self._url is not None:
            return self._url
        host = headers.get("host", "").lower()
        match = _HOST.fullmatch(host)
        if match is None or not self._is_known(match[1].strip("[]")):
            raise Refusal(
                421,
                "MisdirectedRequest",
                f"host: want localhost, 127.0.0.1 or a configured name of this vault, got {host[:200]!a}",
                hint="kluis serve ... --name NAME, or url in the key service's settings",
            )
        return f"https://{host}"

    def _is_known(self, name: str) -> bool:
        if name in self._names or f"*.{name.partition('.')[2]}" in self._names or _LOCALHOST.fullmatch(name):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False
