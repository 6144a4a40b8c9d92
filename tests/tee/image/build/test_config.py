"""``kluis.toml``: defaults, bounds, and messages that name the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from kluis.errors import UsageError
from kluis.tee.image.build import config


def load(folder: Path, text: str) -> config.Config:
    (folder / "kluis.toml").write_text(text)
    return config.load(folder)


def test_defaults(tmp_path: Path) -> None:
    """Without a file: app.py's app, 512 MiB, 8 threads, a fixed date, and no grants."""
    assert config.load(tmp_path) == config.Config(
        entry="app:app",
        requirements=(),
        heap_bytes=512 << 20,
        scratch_bytes=0,
        threads=8,
        grants=(),
        date="20260101",
        exclude=(),
        modules=(),
        requirements_exclude=("*/tests/*", "*.h", "*.hpp", "*.pxd", "*.pyi"),
        argv=(),
        env={},
        wheels=None,
    )


def test_everything(tmp_path: Path) -> None:
    """Every key is read; grants are sorted, so that their order in the file is no difference."""
    (tmp_path / "own" / "wheels").mkdir(parents=True)
    made = load(
        tmp_path,
        'entry = "cohort.main:room"\nrequirements = ["polars==2.1.0"]\nheap = "2GiB"\nscratch = "4GiB"\n'
        "threads = 16\n"
        'grants = ["table", "insecure_jit", "table"]\ndate = 20270228\nexclude = ["tests/*"]\n'
        'modules = ["kluis.evidence", "own.part"]\n'
        'requirements_exclude = ["*/benchmarks/*"]\n'
        'wheels = "own/wheels/"\n'
        'argv = ["--fast"]\n[env]\nTZ = "UTC"\n',
    )
    assert made == config.Config(
        entry="cohort.main:room",
        requirements=("polars==2.1.0",),
        heap_bytes=2 << 30,
        scratch_bytes=4 << 30,
        threads=16,
        grants=("insecure_jit", "table"),
        date="20270228",
        exclude=("tests/*",),
        modules=("kluis.evidence", "own.part"),
        requirements_exclude=("*/benchmarks/*",),
        argv=("--fast",),
        env={"TZ": "UTC"},
        wheels=(tmp_path / "own" / "wheels").resolve(),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("heap = ", "kluis.toml: Invalid value (at end of document)"),
        ('heap = "much"', "kluis.toml: heap: want a size such as \"512MiB\", got 'much'"),
        ('heap = "1KiB"', "kluis.toml: heap: want 16MiB to 16384GiB in whole pages, got 1KiB"),
        ("heap = 16777217", "kluis.toml: heap: want 16MiB to 16384GiB in whole pages, got 16777217"),
        ('heap = "16385GiB"', "kluis.toml: heap: want 16MiB to 16384GiB in whole pages, got 16385GiB"),
        ('scratch = "yes"', "kluis.toml: scratch: want a size such as \"512MiB\", got 'yes'"),
        ('scratch = "4KiB"', "kluis.toml: scratch: want 1MiB to 1024GiB in whole pages, got 4KiB"),
        ('scratch = "33GiB"', "kluis.toml: scratch: want at most 64 times the heap, got 33GiB for 512MiB"),
        ("scratch = 1048577", "kluis.toml: scratch: want 1MiB to 1024GiB in whole pages, got 1048577"),
        ('wheels = "nowhere"', "kluis.toml: wheels: 'nowhere' is not a folder"),
        ('wheels = "../up"', "kluis.toml: wheels: want a folder below this one, got '../up'"),
        ('wheels = "/usr"', "kluis.toml: wheels: want a folder below this one, got '/usr'"),
        ('wheels = "."', "kluis.toml: wheels: want a folder below this one, got '.'"),
        ("threads = 0", "kluis.toml: threads: want 1..1024, got 0"),
        ("threads = 1.5", "kluis.toml: expected `int`, got `float` - at `$.threads`"),
        ('date = "yesterday"', "date: want a day as YYYYMMDD, got 'yesterday'"),
        ("[env]\nTZ = 1", "kluis.toml: expected `str`, got `int` - at `$.env[...]`"),
        (
            '[env]\nLD_PRELOAD = "/x.so"',
            "kluis.toml: env.LD_PRELOAD: want a variable of the application's, got the launcher's",
        ),
        (
            '[env]\nPYTHONPATH = "/x"',
            "kluis.toml: env.PYTHONPATH: want a variable of the application's, got the launcher's",
        ),
        (
            'grants = ["internet"]',
            "kluis.toml: grants: want insecure_jit, insecure_raw_report_data, table, "
            "connect:NAME, listen:NAME, got 'internet'",
        ),
    ],
)
def test_a_value_out_of_bounds(tmp_path: Path, text: str, message: str) -> None:
    """A value that cannot be meant is refused, and the key is named."""
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    assert caught.value.message == message


def test_a_misspelt_key(tmp_path: Path) -> None:
    """A key that is not known is refused, with the one that was probably meant."""
    with pytest.raises(UsageError) as caught:
        load(tmp_path, "thread = 8")
    assert caught.value.message == (
        "kluis.toml: thread: want one of entry, requirements, wheels, heap, scratch, threads, grants, date, "
        "exclude, modules, requirements_exclude, argv, env"
    )
    assert caught.value.hint == "did you mean threads"
