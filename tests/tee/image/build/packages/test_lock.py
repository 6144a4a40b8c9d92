"""Requirements and locks: names alone, all hashed or none, and never a lock of other requirements."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.errors import UsageError
from kluis.tee.image.build.packages import lock

HASH = "--hash=sha256:" + "ab" * 32


def test_reads_a_requirements_file() -> None:
    """Comments, continued lines, extras and markers are read as pip reads them."""
    text = (
        f"# all of it\npolars==2.1.0 \\\n    {HASH} \\\n    --hash=sha256:{'cd' * 32}\n\n"
        f'Dask[array] == 1.0 ; python_version > "3.10" {HASH}  # why\n'
    )
    found = lock.pins(lock.lines(text, "r.txt"), "r.txt")
    assert [(pin.name, pin.version, len(pin.hashes)) for pin in found] == [
        ("polars", "2.1.0", 2),
        ("dask", "1.0", 1),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://evil.example",
        "-e .",
        "-r other.txt",
        "./local.whl",
        "https://evil.example/a.whl",
        "a @ https://evil.example/a.whl",
        "git+https://evil.example/a",
        "a==1 --config-settings=x",
        "$(HOME)",
        "a>=",
        "a; python_version",
        "a==1..2",
    ],
)
def test_names_alone(line: str) -> None:
    """An option, a path or an address in the requirements is refused: it says nothing about which bytes."""
    with pytest.raises(UsageError) as caught:
        lock.lines(line, "r.txt")
    assert caught.value.message == f"r.txt: want a line such as polars==2.1.0, got {line!r}"


@pytest.mark.parametrize("line", ["a", "a>=1", "a==1", f"a {HASH}", f"a>=1 {HASH}", f"a==1.* {HASH}"])
def test_all_hashed_or_none(line: str) -> None:
    """In a list with hashes, one that is not pinned and hashed is refused."""
    with pytest.raises(UsageError) as caught:
        lock.pins([f"b==1 {HASH}", line], "r.txt")
    assert caught.value.message == f"r.txt: want name==version --hash=sha256:..., got {line!r}"


def test_a_name_twice() -> None:
    """Two pins of one name, however it is spelt, are refused."""
    with pytest.raises(UsageError) as caught:
        lock.pins([f"a-b==1 {HASH}", f"A_b==2 {HASH}"], "r.txt")
    assert caught.value.message == "r.txt: a-b appears twice"


def test_a_lock_of_other_requirements(tmp_path: Path) -> None:
    """A lock is used only for the requirements that it was made from."""
    path = tmp_path / lock.name()
    path.write_text(f"{lock._first_line(['polars==2.1.0'])}\npolars==2.1.0 {HASH}\n")
    assert [pin.name for pin in lock.load(path, ["polars==2.1.0"])] == ["polars"]
    with pytest.raises(UsageError) as caught:
        lock.load(path, ["polars==2.2.0"])
    assert caught.value.message == f"{lock.name()}: was made from other requirements"
    assert caught.value.hint == f"remove {path} and build again, which writes a new lock"
