"""Changes from one image to the next that ``kluis diff`` does not name."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.errors import FormatError
from kluis.tee.image.build.changes import diff
from tests.tee.image import samples

ESCAPED = b"# coding: unicode_escape\napp = 1  # \\x0aapp = 2\n"
CALL = (
    b'{"ecalls":[{"name":"pay","parameters":['
    b'{"name":"%b","type":"str"},{"name":"%b","type":"str"}]}],"version":1}'
)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_parameters_in_another_order(tmp_path: Path) -> None:
    """A call by position pays another account: the order is a line of the interface, too."""
    before = samples.image(samples.contents(app={"app.py": b"app = 1\n"}), interface=CALL % (b"a", b"b"))
    after = samples.image(samples.contents(app={"app.py": b"app = 2\n"}), interface=CALL % (b"b", b"a"))
    found = diff(written(tmp_path / "1", before), written(tmp_path / "2", after))
    assert [one for one in found if one.kind == "interface"], found


def test_the_order_alone(tmp_path: Path) -> None:
    """Likewise, where nothing else changed: the line that changed is named."""
    before, after = (samples.image(interface=CALL % names) for names in ((b"a", b"b"), (b"b", b"a")))
    found = diff(written(tmp_path / "1", before), written(tmp_path / "2", after))
    assert [one for one in found if one.kind == "interface"], found


def test_a_source_that_another_python_reads_otherwise(tmp_path: Path) -> None:
    """Source in another encoding is refused, also without bytecode and for another version of Python."""
    before, after = (
        samples.image(samples.contents(app={"app.py": source}), python="3.99.0")
        for source in (b"app = 1\n", ESCAPED)
    )
    with pytest.raises(FormatError) as caught:
        diff(written(tmp_path / "1", before), written(tmp_path / "2", after))
    assert caught.value.code == "source_encoding"
