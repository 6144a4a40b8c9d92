"""Which requests go to the enclave: those of this machine's programs, and of pages that the proxy served.

Any page in a browser can send requests to loopback. So a request's ``Host`` must be a name of the proxy, else
the page's own name leads to this address (DNS rebinding). Its ``Origin`` and ``Sec-Fetch-Site`` must be the
proxy's, or an origin that the user named. A token keeps out other users of the machine.
Spec: RFC 6454; Fetch Metadata Request Headers, "The Sec-Fetch-Site HTTP Request Header".
"""

from __future__ import annotations

import hmac
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from kluis.connect.heads import MalformedError, Request, Response
from kluis.errors import UsageError
from kluis.formats.kluis.attested_tls import PATH

LOOPBACK: Final = frozenset({b"localhost", b"127.0.0.1", b"[::1]"})
_HOST: Final = re.compile(rb"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#@]+)([/?].*)?", re.IGNORECASE)
_EVIDENCE: Final = PATH.encode()
_ONCE: Final = frozenset({
    b"origin", b"sec-fetch-site", b"authorization", b"proxy-authorization", b"upgrade",
    b"sec-websocket-key", b"sec-websocket-version",
})  # fmt: skip
_OURS: Final = frozenset({b"none", b"same-origin"})


class RefusedError(UsageError):
    """A request that does not go to the enclave.

    Attributes:
        status: of the answer.
    """

    def __init__(self, status: int, message: str, *, code: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status


class Admission:
    """Checks requests, and writes their heads for the enclave.

    Args:
        authority: of the enclave: ``host:port``, its ``Host``.
        hosts: names of the proxy besides loopback's, without a port.
        origins: other origins whose pages may send requests: ``http://localhost:3000``.
        token: that requests must have; None: they need none.
    """

    def __init__(
        self, authority: str, *, hosts: frozenset[str], origins: frozenset[str], token: str | None
    ) -> None:
        self._authority = authority.encode("ascii")
        self._names = LOOPBACK | {each.lower().encode("ascii") for each in hosts}
        self._origins = {each.lower().encode("ascii") for each in origins}
        self._token = None if token is None else token.encode("ascii")
        self._host_line = b"Host: " + self._authority
        self._here = (b"https://" + self._authority).lower()
        name, _, port = self._authority.lower().rpartition(b":")
        self._addresses = {self._authority.lower(), *([name] if port == b"443" else [])}

    def admit(self, request: Request) -> bytes:
        """The head that goes to the enclave, if the request may.

        Raises:
            RefusedError: it may not.
            MalformedError: it could be understood in two ways.
        """
        fields = request.fields
        values = fields.values
        if fields.repeated and (twice := fields.repeated & _ONCE):
            raise MalformedError(f"{min(twice).decode()}: want one field, got several")
        target, host = request.target, values[b"host"].lower()
        if not target.startswith(b"/"):
            target, host = self._origin_form(request, host)
        self._check_host(host)
        without: frozenset[bytes] = frozenset()
        more = []
        if b"origin" in values:
            same = self._of_origin(values[b"origin"].lower(), host)
            if same:  # as the enclave's application compares it with its own Host
                without, more = frozenset({b"origin"}), [b"Origin: " + self._here]
        elif (site := values.get(b"sec-fetch-site", b"none")) not in _OURS:
            raise _cross_site(f"a {site[:20].decode('ascii', 'replace')} page")
        if self._token is not None:
            without |= _find_tokens(values, self._token)
        if any(name == b"cookie" and _CONSOLE in line for name, line in fields.lines):
            without |= {b"cookie"}
            more += [b"Cookie: " + kept for name, line in fields.lines if (kept := _cookies(name, line))]
        # The proxy's clients share connections, whose evidence is the proxy's matter.
        path = target.partition(b"?")[0]
        if path == _EVIDENCE or (b"%" in path and unquote_to_bytes(path) == _EVIDENCE):
            raise RefusedError(
                404,
                "evidence: kluis connect requests and judges it, and not its clients",
                code="connect_evidence",
            )
        if fields.chunked:
            more.append(b"Transfer-Encoding: chunked")
        elif fields.length is not None:
            more.append(b"Content-Length: %d" % fields.length)
        if request.websocket:
            more += [b"Connection: Upgrade", b"Upgrade: websocket"]
        first = b"%b %b HTTP/1.1" % (request.method, target)
        return b"\r\n".join([first, self._host_line, *fields.lines_without(without), *more, b"", b""])

    def answer(self, response: Response, more: list[bytes]) -> bytes:
        """The head of a response for the client, with more lines.

        An address of the enclave in ``Location`` becomes one of the proxy: otherwise the client would go
        past the proxy to an enclave that nobody verified.
        """
        lines = response.fields.lines_without(_ALT_SVC)
        if b"location" in response.fields.values:
            lines = [self._relative(line) if line[:9].lower() == b"location:" else line for line in lines]
        return b"\r\n".join([response.line, *lines, *more, b"", b""])

    def _relative(self, line: bytes) -> bytes:
        """A ``Location`` without the enclave's address: the same path, at the proxy."""
        where = line[9:].strip(b"\t ").replace(b"\t", b"")  # browsers ignore tabs in addresses
        match = _AUTHORITY.match(where)
        if match is None or match[1].lower() not in self._addresses:
            return line
        rest = where[match.end() :]
        if rest[:1] != b"/":
            rest = b"/" + rest
        if rest[1:2] in (b"/", b"\\"):  # it would be read as another host's name
            rest = b"/." + rest
        return b"Location: " + rest

    def _origin_form(self, request: Request, host: bytes) -> tuple[bytes, bytes]:
        """The target and the host of a request in another form than an origin server's."""
        if request.target == b"*" and request.method == b"OPTIONS":
            return b"*", host
        match = _ABSOLUTE.fullmatch(request.target)
        if match is None or request.method == b"CONNECT":
            raise MalformedError(f"target: want a path, got {request.target[:80]!a}")
        rest = match[2] or b"/"  # RFC 9112, "absolute-form": the Host field is ignored
        return (rest if rest.startswith(b"/") else b"/" + rest), match[1].lower()

    def _check_host(self, host: bytes) -> None:
        match = _HOST.fullmatch(host)
        if match is None or match[1] not in self._names:
            raise RefusedError(
                421,
                f"host: want {_join_names(self._names)}, got {host[:80].decode('ascii', 'backslashreplace')}",
                hint="kluis connect --host NAME accepts another name",
                code="connect_host",
            )

    def _of_origin(self, origin: bytes, host: bytes) -> bool:
        """Whether an origin is the proxy's own; False for another that the user named."""
        if origin == b"http://" + host:
            return True
        if origin in self._origins:
            return False
        raise _cross_site(origin[:80].decode("ascii", "backslashreplace"))


def _find_tokens(values: dict[bytes, bytes], token: bytes) -> frozenset[bytes]:
    """The fields that have the token, which the enclave does not get."""
    found = set[bytes]()
    for name in (b"proxy-authorization", b"authorization"):
        scheme, _, given = values.get(name, b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), token):
            found.add(name)
    if found:
        return frozenset(found)
    raise RefusedError(
        401,
        "token: want the token of kluis connect, got none or another",
        hint="send it as the API key, or in Proxy-Authorization: Bearer TOKEN",
        code="connect_token",
    )


# A framework behind TLS may write the wrong scheme, or none.
_AUTHORITY: Final = re.compile(rb"(?:https?:)?//([^/?#]*+)", re.IGNORECASE)
_CONSOLE: Final = b"kluis-console-"  # kluis.console.access
_ALT_SVC: Final = frozenset({b"alt-svc"})


def _cookies(name: bytes, line: bytes) -> bytes:
    """The cookies of a field without the console's, which a browser sends to every port of 127.0.0.1."""
    if name != b"cookie":
        return b""
    return b";".join(each for each in line[7:].split(b";") if not each.strip().startswith(_CONSOLE)).strip()


def _cross_site(who: str) -> RefusedError:
    return RefusedError(
        403,
        f"origin: want a page of this proxy, got {who}",
        hint="kluis connect --origin ORIGIN accepts requests of another page",
        code="connect_origin",
    )


def _join_names(names: frozenset[bytes]) -> str:
    return ", ".join(sorted(each.decode() for each in names))
