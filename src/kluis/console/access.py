"""Who may use the console: the checks before every request, and the headers of every response.

Other users of the machine can connect to the port, and any website can make this user's browser send requests
to it. So every request passes these steps.

1. The Host header has this server's own name and port. The name is a random label of ``localhost``, which
   browsers resolve to loopback. A name that an attacker's DNS resolves to loopback is refused.
2. The method is GET, HEAD or POST, and the body is bounded.
3. The path with the token sets the session's cookie; every other path requires that cookie. It is HttpOnly
   and SameSite=Strict. Cookies do not distinguish ports, so it belongs to the random name: a server on
   another port, at ``127.0.0.1`` or ``localhost``, does not receive it.
4. A browser that states where a request comes from states this server, or the user.
5. A POST has this server's Origin. Its form has the session's second token (:meth:`Access.check_form`).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kluis.errors import PolicyError

HOST: Final = "127.0.0.1"
OPEN: Final = "/open"
FIELD: Final = "csrf"
MAX_BODY: Final = 24 << 20
_TOKEN_BYTES: Final = 32
_LABEL_BYTES: Final = 16
_METHODS: Final = ("GET", "HEAD", "POST")
_HERE: Final = ("same-origin", "none")
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # With no-referrer, browsers send "Origin: null" with a form, and step 5 could not check it.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
# A page and not a redirect: a browser sends a strict cookie only with requests that this page starts.
_OPENED: Final = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Kluis console</title>'
    '<link rel="icon" href="/static/icon.svg">'
    '<meta http-equiv="refresh" content="0;url=/"></head><body><p><a href="/">Open the console</a></p></body>'
    "</html>"
)


class Access:
    """The secrets of one server, and its checks.

    Args:
        port: where it listens on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.host = f"kluis-{secrets.token_hex(_LABEL_BYTES)}.localhost:{port}"
        self.origin = f"http://{self.host}"
        self._token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._session = secrets.token_urlsafe(_TOKEN_BYTES)
        self.form_token = secrets.token_urlsafe(_TOKEN_BYTES)
        self.cookie = f"kluis-console-{port}"

    @property
    def url(self) -> str:
        """The address with the token, which opens the console. It is a secret."""
        return f"{self.origin}{OPEN}?token={self._token}"

    def __repr__(self) -> str:
        return f"Access({self.port})"

    def check_form(self, token: object) -> None:
        """Refuse a form without the session's second token.

        Raises:
            PolicyError: it has none, or another.
        """
        if not isinstance(token, str) or not _same(token, self.form_token):
            raise PolicyError("form: was not sent by a page of this console", hint="reload the page")

    def opens(self, query: bytes) -> bool:
        """Whether a query string is exactly the token."""
        return hmac.compare_digest(query, b"token=" + self._token.encode())

    def session_response(self) -> Response:
        """The response to the token: the session's cookie, and a page that leads to the console."""
        response = HTMLResponse(_OPENED)
        response.set_cookie(self.cookie, self._session, path="/", httponly=True, samesite="strict")
        return response

    def refusal_of(self, scope: Scope) -> Response | None:
        """The response to a request that steps 1 to 5 refuse; None if it may pass."""
        headers = Headers(scope=scope)
        if headers.getlist("host") != [self.host]:  # 1
            return _plain(421, "want another Host: open the address that kluis console printed")
        if scope["method"] not in _METHODS:  # 2
            return _plain(405, "want GET, HEAD or POST")
        if _length(headers) > MAX_BODY:
            return _plain(413, f"want at most {MAX_BODY} bytes, got more")
        if scope["path"] == OPEN and scope["method"] == "GET" and self.opens(scope["query_string"]):
            return self.session_response()
        cookies = cookie_parser("; ".join(headers.getlist("cookie")))
        if not _same(cookies.get(self.cookie, ""), self._session):  # 3
            return _plain(401, "open the address that kluis console printed: it has a token")
        if any(each not in _HERE for each in headers.getlist("sec-fetch-site")):  # 4
            return _plain(403, "want a request from a page of this console, got one from another site")
        if scope["method"] == "POST" and headers.getlist("origin") != [self.origin]:  # 5
            return _plain(403, "want the Origin of this console's pages, got another")
        return None


class Gate:
    """ASGI middleware: refuses what :class:`Access` refuses, bounds bodies, adds the headers.

    Args:
        app: the application behind it.
        access: the checks.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; a WebSocket is refused."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # the server refuses a WebSocket that nothing accepts

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._access.refusal_of(scope)
        await (refusal or self._app)(scope, _limit_body(receive), answer)


def _limit_body(receive: Receive) -> Receive:
    read = 0

    async def receive_bounded() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > MAX_BODY:
            raise HTTPException(413, f"want at most {MAX_BODY} bytes, got more")
        return message

    return receive_bounded


def _length(headers: Headers) -> int:
    stated = headers.get("content-length", "0")
    return int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 19 else MAX_BODY + 1


def _same(text: str, secret: str) -> bool:
    return hmac.compare_digest(text.encode("utf-8", "surrogatepass"), secret.encode())


def _plain(status: int, text: str) -> Response:
    return PlainTextResponse(f"kluis console: {text}\n", status)
