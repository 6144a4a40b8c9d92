"""Ballots that go on where their memory ends, in functions of the engine that fail badly: only they end."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.adversary.test_ledger_ballots import VOTES

STARVED = r"""let spare = new ArrayBuffer(%d), n = 0;
const kept = globalThis.kept = new Array(9000).fill(0), none = { constructor: undefined };
const own = { ...none, flags: "v", toString: () => "\\p{RGI_Emoji}" };
const one = Object.assign(/\p{RGI_Emoji}/v, none), kind = () => 1;
let made;
for (const size of [65536, 4096, 100]) try { for (;;) kept[n++] = new ArrayBuffer(size); } catch {}
try { for (;;) kept[n++] = {}; } catch {}
spare = null;
try { DO } catch {}
export const vote = () => true;"""
FORMS = [
    r'new RegExp("\\p{Basic_Emoji}", "v")', r'RegExp("\\p{RGI_Emoji}", "v")', '"a".split(one)',
    "RegExp.prototype[Symbol.split].call(own, 'a')", r'/a/.compile("\\p{RGI_Emoji}", "v")',
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_an_expression_from_text_without_memory_ends_no_node(form: str) -> None:
    """Of the strings of a property. Its compiler begins only where there is memory for it."""
    run, ballot = VOTES.replace("1000, 2000, 8", "0, 4000, 64"), STARVED.replace("DO", form)
    done = subprocess.run(
        [sys.executable, "-c", run, ballot], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


PROTOTYPES = [
    "Object.setPrototypeOf(kind, one)", "Reflect.setPrototypeOf([], none)", "kind.__proto__ = one",
    "made = {__proto__: kind, q: 1}", r"made = {'\x5f_\u0070ro\u{74}o\_\_': kind, q: 1}",
    "made = {'__pro\\\nto__': kind, q: 1}",
]  # fmt: skip


@pytest.mark.parametrize("form", PROTOTYPES)
def test_a_prototype_without_memory_ends_no_node(form: str) -> None:
    """The engine never frees one that it could not set."""
    run = VOTES.replace("1000, 2000, 8", "0, 800, 8")
    ballot = STARVED.replace("DO", form)
    done = subprocess.run(
        [sys.executable, "-c", run, ballot], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_promises_without_memory_end_no_node() -> None:
    """The engine never frees what it has made when it cannot make the rest."""
    run = VOTES.replace("1000, 2000, 8", "0, 2400, 16")
    ballot = STARVED.replace("DO", "Promise.allSettled(two)").replace("let made;", "const two = [kind, one];")
    done = subprocess.run(
        [sys.executable, "-c", run, ballot], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_search_without_memory_returns() -> None:
    """Of an iterator whose steps are promises: the engine's own went on for ever."""
    run = VOTES.replace("1000, 2000, 8", "0, 1600, 40")
    ballot = STARVED.replace("DO", "Iterator.prototype.includes.call(steps, 1)").replace(
        "let made;", "const steps = (async function* () { yield 1; })();"
    )
    done = subprocess.run(
        [sys.executable, "-c", run, ballot], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
