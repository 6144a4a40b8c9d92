"""The walls, as the command line that builds them."""

from __future__ import annotations

from pathlib import Path

from kluis.tee.process import sandbox

WALLS = sandbox.Walls(
    mounts=((Path("/layers/aa"), "/k/python"),),
    paths=("/k/python/lib/python3.11",),
    heap_bytes=1 << 29,
    region_bytes=1 << 30,
    threads=8,
    without="",
    options="",
    environment=(("HOME", "/"),),
    uid=5,
)


def line(walls: sandbox.Walls = WALLS) -> list[str]:
    """The command line."""
    return sandbox.command(walls, bwrap="bwrap", guardian=Path("/g"), info_fd=8)


def test_descriptors() -> None:
    """The runtime's five, the backing of scratch where there is any, then what the host hands over."""
    assert sandbox.inside_descriptors(7) == (3, 4, 5, 6, 7, 10, 11)
    assert sandbox.inside_descriptors(7, scratch=True) == (3, 4, 5, 6, 7, 9, 10)


def test_temporary_files_go_to_scratch() -> None:
    """If there is scratch, libraries are configured to use it; otherwise nothing changes."""
    without, with_some = sandbox.environment(8, 1 << 29), sandbox.environment(8, 1 << 29, 1 << 28)

    assert {name: with_some[name] for name in set(with_some) - set(without)} == {
        "TMPDIR": "/scratch",
        "POLARS_OOC_SPILL_DIR": "/scratch/polars",
    }


def test_every_namespace_is_new() -> None:
    """Mount (bubblewrap's own), pid, net, ipc, uts and cgroup; the guardian is the first process in it."""
    wanted = {
        "--unshare-pid",
        "--unshare-net",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup",
        "--as-pid-1",
    }

    assert wanted <= set(line())
    assert "--die-with-parent" in line()


def test_no_proc_and_no_host_files() -> None:
    """Only the layers, the guardian and /dev/null are mounted, the layers read-only."""
    got = line()

    assert not {"--proc", "--dev", "--bind", "--share-net", "--tmpfs"} & set(got)
    assert [got[i + 1] for i, word in enumerate(got) if word == "--dev-bind"] == ["/dev/null", "/dev/urandom"]
    assert [got[i + 1] for i, word in enumerate(got) if word == "--ro-bind"] == ["/g", "/layers/aa"]


def test_environment_is_only_what_is_given() -> None:
    """The host's environment is cleared, then each variable is set by name."""
    got = line()

    assert got.index("--clearenv") < got.index("--setenv")
    assert got[got.index("--setenv") :][:3] == ["--setenv", "HOME", "/"]


def test_pools_never_exceed_the_manifest() -> None:
    """Numerical libraries get at most as many threads as the manifest allows."""
    assert sandbox.environment(1, 1 << 30)["OMP_NUM_THREADS"] == "1"
    assert int(sandbox.environment(1000, 1 << 30)["POLARS_MAX_THREADS"]) <= 1000


def test_polars_is_told_the_heap() -> None:
    """Inside there is no other place to learn the size of the memory from."""
    assert sandbox.environment(1, 3 << 30)["POLARS_OVERRIDE_TOTAL_MEMORY_MB"] == "3072"
