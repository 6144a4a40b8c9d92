"""The address of a function, read from the file itself."""

from __future__ import annotations

import shutil
import sys
import sysconfig
from pathlib import Path

import pytest

from kluis.tee.doctor import probes

pytestmark = pytest.mark.skipif(shutil.which("readelf") is None, reason="binutils is not installed")


def test_offset_is_inside_the_file() -> None:
    """A function that the interpreter exports lies in its file; one that nobody has is not found."""
    library = Path(sysconfig.get_config_var("LIBDIR")) / sysconfig.get_config_var("LDLIBRARY")
    file = library if library.exists() else Path(sys.executable)

    assert 0 < probes.offset(str(file), "PyBytes_AsString") < file.stat().st_size
    with pytest.raises(LookupError, match="no_such_function"):
        probes.offset(str(file), "no_such_function")
