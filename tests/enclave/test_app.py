"""Declaring an enclave: what is accepted, and what is refused at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kluis.enclave import Enclave
from kluis.enclave.app import binder
from kluis.enclave.boundary.interface import parse_signature
from kluis.errors import UsageError


def unhinted(a) -> int:  # type: ignore[no-untyped-def]
    return 1


def without_result(a: int):  # type: ignore[no-untyped-def]
    return 1


def anything(a: Any) -> int:
    return 1


def gather(*rest: int) -> int:
    return 1


def listed(a: list[int] = [1]) -> int:  # noqa: B006
    return 1


def attest() -> None: ...


async def waits() -> None: ...


def generates() -> list[int]:  # type: ignore[misc]
    yield 1


def anything_more() -> Iterator[Any]: ...


def unclear(a: bytes | bytearray) -> None: ...


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "a parameter without a hint": (unhinted, "unhinted.a: has no type hint"),
    "no hint for the result": (without_result, "without_result: the result has no type hint"),
    "a parameter of any type": (anything, "anything.a: Any cannot cross the boundary"),
    "a variable number of arguments": (
        gather,
        "gather: want named parameters, got positional-only ones or a variable number",
    ),
    "a default that is no scalar": (
        listed,
        "listed.a: default: want None, bool, int, float or str, got list",
    ),
    "a name that the host's proxy has": (attest, "attest: this name is not free"),
    "a generator without the type of its items": (
        generates,
        "generates: want a result hint such as Iterator[str], got another: it is a generator",
    ),
    "items of any type": (anything_more, "anything_more result: Any cannot cross the boundary"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case: str) -> None:
    """What cannot cross is refused where it is declared, by name."""
    function, message = REFUSED[case]
    with pytest.raises(UsageError) as refused:
        Enclave("subject").ecall(function)
    assert refused.value.message == message


def test_ocalls_are_plain() -> None:
    """An ocall is a plain function: the host runs no coroutine and no generator for an enclave."""
    for function in (waits, generates):
        with pytest.raises(UsageError, match="want a plain function, got a coroutine or generator"):
            Enclave("subject").ocall(function)
    with pytest.raises(UsageError, match="cannot cross the boundary"):
        Enclave("subject").ocall(anything_more)


def test_a_stream_is_part_of_the_interface() -> None:
    """The document states what is a stream, and the type of its items; a coroutine is a call like others."""
    app = Enclave("subject")

    @app.ecall
    def items() -> Iterator[int]:
        yield 1

    @app.ecall
    async def one() -> int:
        return 1

    first, second = app.interface()["ecalls"]
    assert (first["stream"], first["returns"]) == (True, second["returns"])
    assert "stream" not in second
    assert list(items()) == [1]


def test_declared_twice() -> None:
    """One name is one function, ecall or ocall."""
    app = Enclave("subject")

    @app.ecall
    def one() -> None: ...

    with pytest.raises(UsageError, match=r"^one: is declared twice(?m:$)"):
        app.ocall(one)


@pytest.mark.parametrize(("name", "value"), [("product_id", 65536), ("svn", -1)])
def test_ranges(name: str, value: int) -> None:
    """Product id and svn are 16 bits."""
    with pytest.raises(UsageError) as refused:
        Enclave("subject", **{name: value})
    assert refused.value.message == f"{name}: want 0..65535, got {value}"


def test_plain_functions_outside() -> None:
    """Outside an enclave a declared function is the function it was, ocalls included."""
    app = Enclave("subject")

    @app.ocall
    def twice(x: int) -> int:
        return 2 * x

    @app.ecall
    def through(x: int) -> int:
        return twice(x=x) + 1

    assert through(3) == 7
    assert app.begin(twice, 4)() == 8
    with pytest.raises(UsageError, match="begin: want an ocall of subject"):
        app.begin(through, 3)
    assert asyncio.run(app.request(twice, 4)) == 8
    with pytest.raises(UsageError, match="request: want an ocall of subject"):
        asyncio.run(app.request(through, 3))


def test_whom_it_asks_runs_before_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is begun is on its way, and the processor free for it, when the asker goes on."""
    app, order = Enclave("subject"), []

    @app.ocall
    def twice(number: int) -> int:
        return 2 * number

    class Sends:
        def begin(self, index: int, arguments: tuple[Any, ...]) -> Callable[[], Any]:
            order.append("sent")
            return lambda: 8

    app.route(Sends())
    monkeypatch.setattr(os, "sched_yield", lambda: order.append("gave way"))
    assert app.begin(twice, 4)() == 8
    assert order == ["sent", "gave way"]
    assert twice(4) == 8  # who waits anyway gives way to nobody
    assert order == ["sent", "gave way", "sent"]


def test_binds_like_python() -> None:
    """Arguments are laid out as Python would, defaults filled in."""

    def f(a: int, b: int = 2, c: str = "x") -> None: ...

    bind = binder(parse_signature(f))
    assert bind((1,), {}) == (1, 2, "x")
    assert bind((), {"c": "y", "a": 5}) == (5, 2, "y")
    for args, kwargs, message in (
        ((), {}, "f: wants a"),
        ((1,), {"a": 1}, "f: a is given twice"),
        ((1,), {"d": 1}, "f: has no parameter d"),
        ((1, 2, 3, 4), {}, "f: want at most 3 arguments, got 4"),
    ):
        with pytest.raises(TypeError) as refused:
            bind(args, kwargs)
        assert str(refused.value) == message
