"""A form of the development issuer with one field twice, of which parsers read different ones."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.requests import Request

from kluis.serve.issuer import development
from kluis.services.web import Refusal


@pytest.mark.parametrize("form", ["scope=a&scope=b", "scope=&scope=b", "scope=b&scope=", "scope&scope=b"])
def test_a_field_twice(form: str) -> None:
    """It is refused, also where one of them is empty."""

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": form.encode(), "more_body": False}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(Refusal):
        asyncio.run(development._form(request))
