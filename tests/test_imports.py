"""Imports that compile no regular expression before its use."""

from __future__ import annotations

import contextlib
import copy
import gc
import re
import subprocess
import sys

import pytest

from kluis import imports

UNUSED = """
import re
from kluis import imports
compiled = []
real = re._compile
re._compile = lambda pattern, flags: compiled.append(pattern) or real(pattern, flags)
with imports.quick():
    import kluis.tee.platform.daemon
print(len(compiled))
"""


def test_a_pattern_is_compiled_when_it_is_used() -> None:
    """It then does what the pattern does, with its flags; and one that cannot be compiled fails then."""
    with imports.quick():
        pattern, wrong = re.compile(r"(a)b", re.IGNORECASE), re.compile("(")
    assert type(pattern) is imports.Deferred
    found = pattern.fullmatch("AB")
    assert found is not None
    assert found[1] == "A"
    assert (pattern.pattern, pattern.groups) == ("(a)b", 1)
    assert pattern.sub("c", "abab") == "cc"
    with pytest.raises(re.error):
        wrong.search("")
    with pytest.raises(AttributeError):
        copy.deepcopy(pattern).nothing  # noqa: B018


def test_both_come_back() -> None:
    """Compiler and collector, also after an import that fails."""
    make, collects = re.compile, []
    with contextlib.suppress(ImportError), imports.quick():
        collects.append(gc.isenabled())
        raise ImportError
    assert collects == [False]
    assert re.compile is make
    assert gc.isenabled()
    gc.disable()
    try:
        with imports.quick():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_platform_compiles_few_while_it_is_imported() -> None:
    """Of more than 50; and none of its libraries hands one to a function of ``re``, which would fail."""
    done = subprocess.run([sys.executable, "-c", UNUSED], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10
