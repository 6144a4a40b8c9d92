"""The trust store: a root by a name and with a level that its user states, and nothing by default."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kluis import trust
from kluis.errors import AuthenticityError, FormatError, KluisError, UnavailableError, UsageError
from kluis.evidence import ProtectionLevel, TrustAnchors
from kluis.trust.store import ENVIRONMENT, MAX_ROOTS
from tests.evidence.forge import Forge
from tests.evidence.tpm import forge as tpm

FORGE, OTHER = Forge(), Forge("process-user")
ROOT = FORGE.authority.root_pem()
MAKER = tpm.Maker().root.public_bytes(Encoding.PEM)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "kluis" / "trust"


def test_nothing_is_trusted_by_default(store: Path) -> None:
    """Without a store there are the vendors' roots only, and none of them is emulated."""
    assert trust.load(store) == ()
    assert trust.anchors(store) == TrustAnchors.shipped()
    assert not any(anchor.emulated for anchor in trust.anchors(store))
    assert not store.exists()


def test_a_root_is_added_listed_trusted_and_removed(store: Path) -> None:
    """A root is trusted from the command that adds it to the one that removes it, and its name is shown."""
    added = trust.add(store, "lab", ROOT, ProtectionLevel.PROCESS)
    (found,) = trust.load(store)
    assert (found.name, found.level, found.anchor) == ("lab", ProtectionLevel.PROCESS, added.anchor)
    quote, collateral = FORGE.quote(), FORGE.collateral()
    claims = FORGE.verify(quote, collateral, anchors=trust.anchors(store))
    assert claims.level is ProtectionLevel.PROCESS
    assert claims.anchor == f"{added.anchor.name} (trusted as lab)"
    trust.remove(store, "lab")
    assert trust.load(store) == ()
    with pytest.raises(AuthenticityError) as error:
        FORGE.verify(quote, collateral, anchors=trust.anchors(store))
    assert error.value.code == "root_untrusted"


def test_the_files_are_the_users_own(store: Path) -> None:
    """The folder and the file that are created are for their owner only, and no other file is left."""
    trust.add(store, "lab", ROOT, ProtectionLevel.PROCESS)
    assert [each.name for each in store.iterdir()] == ["lab.toml"]
    assert (store / "lab.toml").stat().st_mode & 0o777 == 0o600
    assert store.stat().st_mode & 0o777 == 0o700


def test_a_place_that_cannot_be_examined(tmp_path: Path) -> None:
    """It is an error with its reason: without it, nobody knows which roots would be trusted."""
    store = tmp_path / ("a" * 300) / "trust"
    with pytest.raises(UnavailableError) as error:
        trust.load(store)
    assert error.value.message == f"{store}: cannot be examined: File name too long"
    assert error.value.code == "trust_unsafe"


def test_a_root_that_cannot_be_removed(store: Path) -> None:
    """A folder under a root's name is named in the error."""
    (store / "lab.toml").mkdir(parents=True, mode=0o700)
    with pytest.raises(UnavailableError) as error:
        trust.remove(store, "lab")
    assert error.value.message == f"{store / 'lab.toml'}: cannot be removed: Is a directory"


def test_two_roots_of_one_name(store: Path) -> None:
    """A second root of a name is refused, and the first stays."""
    trust.add(store, "lab", ROOT, ProtectionLevel.PROCESS)
    with pytest.raises(UsageError) as error:
        trust.add(store, "lab", OTHER.authority.root_pem(), ProtectionLevel.PROCESS_USER)
    assert error.value.message == "lab: want a new name, got one of a root in the trust store"
    assert error.value.hint == "choose another name, or first: kluis trust remove lab"
    assert [root.pem.strip() for root in trust.load(store)] == [ROOT.strip()]


def test_one_root_of_two_names(store: Path) -> None:
    """A root is in the store once: removing its name must end the trust in it."""
    trust.add(store, "lab", ROOT, ProtectionLevel.PROCESS)
    with pytest.raises(UsageError) as error:
        trust.add(store, "again", ROOT, ProtectionLevel.PROCESS)
    assert error.value.message == "again: is a root that is trusted already, as lab"
    (store / "planted.toml").write_bytes((store / "lab.toml").read_bytes())
    with pytest.raises(UsageError) as error:
        trust.load(store)
    assert error.value.message == f"{store}: want each root once, got one as lab and as planted"
    assert error.value.hint == "kluis trust remove planted"


def test_the_level_is_the_users_statement(store: Path) -> None:
    """An emulated root's own level must be stated; another root has the level that is stated."""
    for level in (ProtectionLevel.VM, ProtectionLevel.HARDWARE_SGX, ProtectionLevel.NONE):
        with pytest.raises(UsageError) as error:
            trust.add(store, "lab", ROOT, level)
        assert error.value.message == f"--level: want process, which the root has, got {level}"
    with pytest.raises(UsageError) as error:
        trust.add(store, "tpm", MAKER, ProtectionLevel.PROCESS)
    assert error.value.message.startswith("root level: want one of none, vtpm, ")
    assert trust.add(store, "tpm", MAKER, ProtectionLevel.VTPM).anchor.level is ProtectionLevel.VTPM
    assert [root.anchor.level for root in trust.load(store)] == [ProtectionLevel.VTPM]


def test_a_vendors_root_is_not_added(store: Path) -> None:
    """A root that Kluis ships is trusted already, with its own level."""
    pem = (Path(trust.__file__).parents[1] / "evidence" / "roots" / "intel-sgx.pem").read_bytes()
    with pytest.raises(UsageError, match="which is trusted already"):
        trust.add(store, "intel", pem, ProtectionLevel.HARDWARE_SGX)
    with pytest.raises(UsageError, match="--level: want hardware-sgx, which the root has, got none"):
        trust.add(store, "intel", pem, ProtectionLevel.NONE)


@pytest.mark.parametrize("name", ["", "Lab", "-x", "a.b", "../a", "a/b", "a\n", "x" * 64, "ä"])
def test_a_name_is_no_path(store: Path, name: str) -> None:
    """A name is refused if it could be a path, or another file on a file system without cases."""
    for refused in (
        lambda: trust.add(store, name, ROOT, ProtectionLevel.PROCESS),
        lambda: trust.remove(store, name),
    ):
        with pytest.raises(UsageError, match=r"\Aname: want at most 63 lower-case letters"):
            refused()
    assert not store.exists()


def test_an_unknown_name_is_not_removed(store: Path) -> None:
    """Removing what is not there is an error that names what is."""
    with pytest.raises(UsageError) as error:
        trust.remove(store, "lab")
    assert error.value.message == "lab: is not in the trust store, which is empty"
    trust.add(store, "lab", ROOT, ProtectionLevel.PROCESS)
    with pytest.raises(UsageError) as error:
        trust.remove(store, "labs")
    assert error.value.message == "trust remove: want one of lab, got 'labs'"
    assert error.value.hint == "did you mean lab?"


HEAD = 'version = 1\nlevel = "process"\n'
BROKEN: dict[str, tuple[str, bytes, str]] = {
    "no TOML": ("lab.toml", b"[", "is not TOML"),
    "another version": ("lab.toml", b"version = 2\n", "want version 1, got 2"),
    "a missing key": ("lab.toml", HEAD.encode(), "want version, level and root, got ['level', 'version']"),
    "another key": (
        "lab.toml",
        f"{HEAD}root = ''\nmore = 1\n".encode(),
        "want version, level and root, got ['level', 'more', 'root', 'version']",
    ),
    "an unknown level": ("lab.toml", b'version = 1\nlevel = "best"\nroot = ""\n', "'best' is not a valid"),
    "no certificate": ("lab.toml", f'{HEAD}root = "root"\n'.encode(), "root certificate"),
    "a root of another level": (
        "lab.toml",
        f"{HEAD}root = '''\n{OTHER.authority.root_pem().decode()}'''\n".encode(),
        "--level: want process-user, which the root has, got process",
    ),
    "a file that no command wrote": ("lab.pem", ROOT, "want a file that kluis trust add wrote, got another"),
    "a name that no command takes": ("Lab.toml", b"", "want a file that kluis trust add wrote, got another"),
    "a large file": ("lab.toml", bytes(1 << 17), "want at most 65536 bytes, got more"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_ends_all_trust(store: Path, case: str) -> None:
    """A file that is no root stops each command that would trust the store, with its name."""
    name, data, message = BROKEN[case]
    store.mkdir(mode=0o700, parents=True)
    (store / name).write_bytes(data)
    with pytest.raises(KluisError) as error:
        trust.anchors(store)
    assert error.value.message.startswith(f"{store / name}: "), error.value.message
    assert message in error.value.message
    if name == "lab.toml":
        trust.remove(store, "lab")
        assert trust.load(store) == ()


def test_a_store_has_a_limit(store: Path) -> None:
    """More than 64 files are refused before any is read."""
    store.mkdir(mode=0o700, parents=True)
    for number in range(MAX_ROOTS + 1):
        (store / f"a{number}.toml").touch()
    with pytest.raises(FormatError) as error:
        trust.load(store)
    assert error.value.message == f"{store}: want at most 64 roots, got 65"


def test_what_a_crash_left_is_not_trusted(store: Path) -> None:
    """A hidden file, which was not yet linked under its name, is not a root."""
    trust.add(store, "lab", ROOT, ProtectionLevel.PROCESS)
    (store / ".other.0123456789abcdef").write_bytes((store / "lab.toml").read_bytes())
    assert [root.name for root in trust.load(store)] == ["lab"]


def test_text_around_a_root_is_refused(store: Path) -> None:
    """Nothing but PEM is written: a quote could end the text that the root is in."""
    with pytest.raises(FormatError):
        trust.add(store, "lab", ROOT + b"'''\nlevel = 1\n", ProtectionLevel.PROCESS)
    assert trust.load(store) == ()


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is in the user's configuration folder, or in the one that the environment names."""
    monkeypatch.delenv(ENVIRONMENT)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert trust.folder() == tmp_path / "kluis" / "trust"
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "own"))
    assert trust.folder() == tmp_path / "own" / "trust"
    monkeypatch.setenv(ENVIRONMENT, "relative")
    with pytest.raises(UsageError, match="KLUIS_CONFIG: want an absolute path, got 'relative'"):
        trust.folder()
