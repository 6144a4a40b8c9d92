"""The site layer: wheels by pip and by hash, from an index that may lie, through a cache that may rot."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from kluis.errors import UnavailableError, UsageError
from kluis.tee.image.build import config
from kluis.tee.image.build.packages import lock, requirements, wheels
from tests.tee.image import samples

OWN = {"msgspec": "0.22.0"}


class Project:
    """An application's folder, an index of wheels in a folder, and a cache."""

    def __init__(self, root: Path) -> None:
        self.index, self.app, self.cache = root / "index", root / "app", root / "cache"
        self.work = root / "work"
        for folder in (self.index, self.app, self.cache, self.work):
            folder.mkdir()
        self.said: list[str] = []
        self.notes: list[str] = []

    def site(self, *wanted: str, **settings: object) -> dict[str, bytes]:
        made = dataclasses.replace(config.load(self.app), requirements=wanted, **settings)  # type: ignore[arg-type]
        found, self.notes = requirements.site(
            self.app, made, OWN, self.cache, self.work, samples.python(), self.said.append
        )
        return {file.path: file.read() for file in found}

    @property
    def lock(self) -> Path:
        return self.app / lock.name()


def _project(root: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = Project(root)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.index))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    samples.wheel(made.index, "outer", {"outer.py": b"import inner\n"}, requires=("inner", "msgspec"))
    samples.wheel(made.index, "inner", {"inner/__init__.py": b"x = 1\n"})
    samples.wheel(made.index, "msgspec", {"msgspec/__init__.py": b""}, version="0.22.0")
    return made


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Pip sees the folder ``index`` and nothing else."""
    return _project(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose first build got ``inner`` with pip."""
    with pytest.MonkeyPatch.context() as patched:
        made = _project(tmp_path_factory.mktemp("built"), patched)
        made.site("inner==1.0")
    return made


@pytest.fixture
def locked(project: Project, built: Project) -> Project:
    """A project after that build: with its lock and its cache."""
    shutil.copy(built.lock, project.lock)
    shutil.copytree(built.cache, project.cache, dirs_exist_ok=True)
    return project


def test_locks_what_it_was_asked_for_and_all_that_needs(project: Project) -> None:
    """A list without hashes is resolved by pip, and written down by hash; Kluis's own part is left out."""
    found = project.site("outer==1.0")

    assert set(found) == {
        "outer.py",
        "inner/__init__.py",
        "outer-1.0.dist-info/METADATA",
        "inner-1.0.dist-info/METADATA",
    }
    inner, outer = (wheels.hash_of(project.index / f"{n}-1.0-py3-none-any.whl") for n in ("inner", "outer"))
    assert project.lock.read_text().splitlines()[1:] == [
        f"inner==1.0 --hash=sha256:{inner}",
        f"outer==1.0 --hash=sha256:{outer}",
    ]
    assert project.said == [f"locking requirements by hash in {project.lock}", "fetching 2 wheels"]


def test_the_second_time_asks_nobody(project: Project) -> None:
    """With the lock and the cache, nothing is fetched: the index may be gone."""
    first = project.site("outer")
    shutil.rmtree(project.index)
    assert project.site("outer") == first


def test_an_index_that_changed_its_wheel(locked: Project) -> None:
    """A wheel of the same name and version with an extra file, even well recorded, is not what was locked."""
    shutil.rmtree(locked.cache)
    locked.cache.mkdir()
    samples.wheel(locked.index, "inner", {"inner/__init__.py": b"x = 1\n", "inner/extra.py": b"evil = 1\n"})
    with pytest.raises(UnavailableError, match="HASH") as caught:
        locked.site("inner==1.0")
    assert caught.value.hint == (
        "a wheel is not the one that was locked; if the lock is old, remove it and build again"
    )


def test_a_cache_that_changed_its_wheel(locked: Project) -> None:
    """A wheel that changed in the cache is fetched again; it is never used."""
    first = locked.site("inner==1.0")
    for path in locked.cache.rglob("*.whl"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert locked.site("inner==1.0") == first


def test_a_cache_that_points_elsewhere(locked: Project) -> None:
    """A choice in the cache that names another wheel than the locked one is not followed."""
    first = locked.site("inner==1.0")
    (choice,) = locked.cache.glob("*.json")
    other = wheels.hash_of(locked.index / "outer-1.0-py3-none-any.whl")
    choice.write_text(f'{{"{other}": "outer-1.0-py3-none-any.whl"}}')
    assert locked.site("inner==1.0") == first
    choice.write_text('{"../../x": "inner-1.0-py3-none-any.whl"}')
    assert locked.site("inner==1.0") == first
    choice.write_text("[]")
    assert locked.site("inner==1.0") == first


def test_a_list_of_the_authors_own_with_hashes(project: Project) -> None:
    """A list that is hashed already is its own lock."""
    digest = wheels.hash_of(project.index / "inner-1.0-py3-none-any.whl")
    assert "inner/__init__.py" in project.site(f"inner==1.0 --hash=sha256:{digest}")
    assert not project.lock.exists()


def test_a_file_of_requirements(project: Project) -> None:
    """``requirements`` may name a file in the folder."""
    (project.app / "r.txt").write_text("inner  # the one we need\n")
    (project.app / "kluis.toml").write_text('requirements = "r.txt"\n')
    settings = config.load(project.app)
    found, _ = requirements.site(
        project.app, settings, OWN, project.cache, project.work, samples.python(), project.said.append
    )
    assert "inner/__init__.py" in {file.path for file in found}


def test_what_no_program_runs_is_left_out(project: Project) -> None:
    """Tests, headers and stubs of wheels stay out, unless the application wants them."""
    samples.wheel(
        project.index,
        "big",
        {"big/__init__.py": b"", "big/tests/test_a.py": b"", "big/a.pyi": b"", "tests.py": b""},
    )
    assert set(project.site("big")) == {"big/__init__.py", "tests.py", "big-1.0.dist-info/METADATA"}
    assert "big/tests/test_a.py" in project.site("big", requirements_exclude=())
    assert "big/tests/test_a.py" not in project.site("big")


def test_another_version_of_kluis_own_part(project: Project) -> None:
    """A pin of something that Kluis brings, at another version, is refused: it would be hidden."""
    with pytest.raises(UsageError) as caught:
        project.site("msgspec==0.1 --hash=sha256:" + "0" * 64)
    assert caught.value.message == "requirements: msgspec: want 0.22.0, which Kluis brings, got 0.1"


def test_two_wheels_with_one_file(project: Project) -> None:
    """Two wheels that would overwrite each other are refused; sharing an equal file is no harm."""
    samples.wheel(project.index, "other", {"inner/__init__.py": b"x = 2\n"})
    with pytest.raises(UsageError, match=r"inner/__init__\.py: another wheel has a file of that name"):
        project.site("inner", "other")


def test_a_requirement_that_nobody_has(project: Project) -> None:
    """What pip cannot find is said in pip's words, and no lock is left."""
    with pytest.raises(UnavailableError, match="No matching distribution found for nowhere"):
        project.site("nowhere==1.0")
    assert not project.lock.exists()


def test_source_distributions_are_not_built(project: Project) -> None:
    """A package that has no wheel is refused: building one would run its code."""
    shutil.make_archive(str(project.index / "sourced-1.0"), "gztar", project.app)
    with pytest.raises(UnavailableError, match="No matching distribution found for sourced"):
        project.site("sourced==1.0")


def test_wheels_of_the_authors_own(project: Project) -> None:
    """A folder of wheels serves what no index has; the lock pins it, and a changed wheel is refused."""
    samples.wheel(project.app / "wheels", "mine", {"mine.py": b"x = 1\n"}, requires=("inner",))
    (project.app / "kluis.toml").write_text('requirements = ["mine"]\nwheels = "wheels/"\n')
    found = project.site("mine")

    assert {"mine.py", "inner/__init__.py"} <= set(found)
    digest = wheels.hash_of(project.app / "wheels" / "mine-1.0-py3-none-any.whl")
    assert f"mine==1.0 --hash=sha256:{digest}" in project.lock.read_text()
    shutil.rmtree(project.cache)
    project.cache.mkdir()
    samples.wheel(project.app / "wheels", "mine", {"mine.py": b"x = 2\n"}, requires=("inner",))
    with pytest.raises(UnavailableError, match=r"pip: .*mine"):
        project.site("mine")


def test_an_index_that_has_a_wheel_of_that_name_too(project: Project) -> None:
    """A later version on an index does not take the place of a wheel in the folder."""
    samples.wheel(project.app / "wheels", "mine", {"mine.py": b"x = 1\n"})
    samples.wheel(project.index, "mine", {"mine.py": b"evil = 1\n"}, version="9.0")
    (project.app / "kluis.toml").write_text('wheels = "wheels"\n')
    with pytest.raises(UsageError) as caught:
        project.site("mine")
    assert caught.value.message == (
        f"wheels: mine: want a wheel from {project.app / 'wheels'}, but pip chose 9.0 from its index"
    )
    assert not project.lock.exists()
    assert b"x = 1" in project.site("mine==1.0")["mine.py"]
