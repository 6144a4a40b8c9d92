"""Render the console's pages: Jinja2 with autoescape, and no control characters of foreign text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

import kluis
from kluis.console.access import FIELD, Access
from kluis.errors import KluisError
from kluis.views.printable import harmless

NAVIGATION: Final = (
    ("/", "Running"),
    ("/evidence", "Evidence"),
    ("/rooms", "Rooms"),
    ("/machine", "Machine"),
)
_UNITS: Final = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


class Pages:
    """The console's templates.

    Args:
        access: whose second token every form contains.
    """

    def __init__(self, access: Access) -> None:
        self._templates = Environment(
            loader=PackageLoader("kluis.console"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_finalize,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {
            "navigation": NAVIGATION,
            "version": kluis.__version__,
            "csrf_field": FIELD,
            "csrf": access.form_token,
        }
        self._templates.filters |= {"age": age, "clock": clock, "since": since, "when": when}

    def text(self, name: str, **values: Any) -> str:
        """Render one template."""
        return self._templates.get_template(name).render(values)

    def page(self, request: Request, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Render a page; for htmx, only its main part."""
        layout = "part.html" if request.headers.get("hx-request") == "true" else "page.html"
        text = self.text(name, layout=layout, path=request.url.path, **values)
        return HTMLResponse(text, status, {"Vary": "HX-Request"})

    def error(self, request: Request, fault: KluisError) -> HTMLResponse:
        """The page of an error: what was wrong, its fix, and its code."""
        return self.page(request, "error.html", fault.http_status, fault=fault)


def age(since: datetime, now: datetime) -> str:
    """A duration in its largest unit, such as "3 minutes"."""
    return _duration(max(now - since, timedelta()))


def _duration(value: timedelta) -> str:
    seconds = int(value.total_seconds())
    for name, size in _UNITS:
        if seconds >= size:
            count = seconds // size
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "less than a second"


def when(value: datetime) -> str:
    """A time in UTC, to the second."""
    return value.strftime("%Y-%m-%d %H:%M:%S UTC")


def since(seconds: int) -> datetime:
    """The time that is this many seconds after the start of 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def clock(value: datetime) -> str:
    """A time for a column whose head states UTC."""
    return value.strftime("%Y-%m-%d %H:%M:%S")


def _finalize(value: Any) -> Any:
    """A value of a template: text without characters that a reader would not see, or that move others."""
    return value if isinstance(value, Markup) else harmless(str(value))
