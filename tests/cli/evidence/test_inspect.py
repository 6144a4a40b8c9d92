"""``kluis inspect``: anything, however it arrives, and nothing of it verified."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kluis.cli.evidence import inspect as inspecting
from kluis.cli.evidence import inspect_text as text
from kluis.cli.image import inspect_image
from kluis.cli.main import run
from kluis.errors import KluisError
from kluis.evidence.sniff import Found, sniff
from kluis.formats.encoding import cbor
from kluis.formats.eventlog.log import EventLog
from kluis.formats.ietf.cmw import OCTETS, Collection, Part
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.wrappers import oe
from kluis.tee.image import archive
from kluis.views import recognised
from kluis.views.fields import fields
from tests.cli.quotes import Kluis, Said
from tests.evidence.cca import forge as cca
from tests.evidence.forge import IMAGE, NONCE
from tests.evidence.test_sniff import GOOD, GPU, ROLES, SGX, VECTORS
from tests.formats.eventlog import imas
from tests.formats.snp import samples
from tests.formats.wrappers.test_eat import unsigned
from tests.pace import within
from tests.tee.image import samples as image_samples


@pytest.fixture
def kluis(capsys: pytest.CaptureFixture[str]) -> Kluis:
    """Run ``kluis inspect``."""

    def said(*argv: object) -> Said:
        code = run(["inspect", *(str(each) for each in argv)])
        return Said(code, *capsys.readouterr())

    return said


@pytest.fixture
def quote(tmp_path: Path) -> Path:
    """A quote and its documents."""
    (tmp_path / "quote.bin").write_bytes(SGX.quote())
    (tmp_path / "quote.bin.runtime.json").write_bytes(SGX.runtime)
    (tmp_path / "quote.bin.launch.json").write_bytes(SGX.launch)
    return tmp_path / "quote.bin"


def test_quote(kluis: Kluis, quote: Path) -> None:
    """A quote's fields and documents, marked as self-described and unverified."""
    said = kluis(quote)
    assert said.code == 0
    assert f"mrenclave            {IMAGE.hex()}\n" in said.out
    assert "flags                INIT, MODE64, KSS\n" in said.out
    assert re.search(r"\nruntime_data:\n  kind +Kluis runtime data\n", said.out)
    assert f"  nonce          {NONCE.hex()}\n" in said.out
    assert re.search(r"\nlaunch:\n  kind +Kluis launch configuration\n", said.out)
    assert "note                 states that no hardware created it\n" in said.out
    assert said.out.endswith("\n\nnothing above is verified: kluis verify checks it\n")


def test_ima(kluis: Kluis, tmp_path: Path) -> None:
    """An IMA log's records in order, and what its register would hold."""
    log = (imas.of_file("/init", b"init"), imas.violation("/log"), imas.record("own", b"a"))
    (tmp_path / "log").write_bytes(imas.written(*log))
    shown = json.loads(kluis(tmp_path / "log", "--json").out)["fields"]
    digest = hashlib.sha256(b"init").hexdigest()
    assert (shown["records"], shown["violations"], shown["templates"]) == (3, 1, {"ima-ng": 2, "own": 1})
    assert shown["record"]["0"] == f"10 /init sha256:{digest[:16]}"
    assert shown["record"]["2"] == "10  of a template that is not known here"
    assert shown["replay"]["sha256.pcr10"] == imas.extended(HashId.SHA256, *log).hex()
    assert set(shown["replay"]) == {"sha1.pcr10", "sha256.pcr10"}


def test_lists_of_structures(kluis: Kluis, tmp_path: Path) -> None:
    """Structures in a list are shown a field a line, as others are."""
    (tmp_path / "token").write_bytes(cca.Forge().token())
    said = kluis(tmp_path / "token").out
    assert re.search(r"\n  components\[0\]\.kind +BL\n", said)
    assert re.search(r"\n  components\[1\]\.version +none\n", said)
    assert "{" not in said


def test_envelopes(kluis: Kluis, tmp_path: Path) -> None:
    """An envelope's own claims are shown as nobody's word, and what it holds below them."""
    inner = cbor.dumps([OCTETS, SGX.quote(), 4])
    token = unsigned({10: NONCE, 265: "tag:a", 299: cbor.Tagged(1668547091, {"tee": [42, SGX.quote()]})})
    for data, shown in (
        (token, ("EAT (UCCS)", "proves nothing by itself", f"nonces  {NONCE.hex()}", "cmw:")),
        (inner, ("CMW record", "says_it_is  EVIDENCE", "SGX quote v3")),
        (cbor.dumps({1: [42, SGX.quote()]}), ("CMW collection", "media_types.1  42", "SGX quote v3")),
        (Part(42, SGX.quote()).encode(), ("CMW record", "says_it_is  none", "SGX quote v3")),
    ):
        (tmp_path / "data").write_bytes(data)
        said = kluis(tmp_path / "data")
        assert said.code == 0
        text = re.sub(r"  +", "  ", said.out)
        for each in shown:
            assert each in text


def test_json(kluis: Kluis, quote: Path) -> None:
    """JSON states that nothing is verified, and has every field and part."""
    value = json.loads(kluis(quote, "--json").out)
    assert (value["verified"], value["kind"], value["size"]) == (False, "SGX quote v3", len(SGX.quote()))
    assert (value["fields"]["product_id"], value["fields"]["debug"]) == (7, False)
    assert value["within"]["runtime_data"]["fields"]["image_id"] == IMAGE.hex()
    assert value["within"]["launch"]["fields"]["threads"] == 8
    assert value["within"]["certificates"]["within"]["[0]"]["fields"]["ca"] is False


@pytest.mark.parametrize(
    ("arrives", "armor"),
    [
        (lambda data: data, []),
        (lambda data: data.hex().encode() + b"\n", ["hex"]),
        (base64.b64encode, ["base64"]),
        (base64.encodebytes, ["base64"]),
        (lambda data: base64.urlsafe_b64encode(data).rstrip(b"="), ["base64url"]),
        (lambda data: json.dumps(base64.b64encode(data).decode()).encode(), ["JSON text", "base64"]),
    ],
)
def test_standard_input(
    kluis: Kluis, monkeypatch: pytest.MonkeyPatch, arrives: Callable[[bytes], bytes], armor: list[str]
) -> None:
    """Bytes come in a pipe, too, and in any armor."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(arrives(GPU.report()))))
    value = json.loads(kluis("-", "--json").out)
    assert (value["kind"], value["armor"]) == ("NVIDIA report", armor)
    assert value["fields"]["driver_version"] == "590.12"
    assert value["fields"]["measurements"]["block2"] == "01" * 48


def test_armor_is_told(kluis: Kluis, tmp_path: Path) -> None:
    """The output names the encoding of the input."""
    (tmp_path / "report.hex").write_text(GPU.report().hex())
    lines = kluis(tmp_path / "report.hex").out.splitlines()
    assert lines[2].split() == ["arrived", "as", "hex"]


@pytest.mark.parametrize("form", ["token", "collection"])
def test_names_cannot_begin_lines(kluis: Kluis, tmp_path: Path, form: str) -> None:
    """The name of a claim or of a part, which anybody chose, begins no line that looks like ours."""
    name = "x\nkind  SGX quote v3\n\x1b[31mnothing above is unverified"
    head = base64.urlsafe_b64encode(json.dumps({"alg": "ES256", name: 1}).encode()).rstrip(b"=")
    claims = base64.urlsafe_b64encode(json.dumps({name: "y", "a": {name: 2}}).encode()).rstrip(b"=")
    made = {"token": head + b"." + claims + b".AAAA", "collection": cbor.dumps({name: [5, b"abc"]})}
    (tmp_path / "odd").write_bytes(made[form])
    said = kluis(tmp_path / "odd")
    assert said.code == 0
    lines = [line.strip() for line in said.out.splitlines()]
    kinds = [line.split(maxsplit=1)[1] for line in lines if line.startswith("kind ")]
    assert kinds == (["JSON web token"] if form == "token" else ["CMW collection", "bytes"])
    assert not any(line.startswith(("\x1b", r"\x1b", "nothing above is un")) for line in lines)
    assert "x?kind  SGX quote v3?" in said.out


def test_labels_that_read_alike(kluis: Kluis, tmp_path: Path) -> None:
    """A number and the text of its digits are two labels, of which JSON loses none."""
    (tmp_path / "odd").write_bytes(cbor.dumps({1: [5, b"abc"], "1": [6, b"de"]}))
    value = json.loads(kluis(tmp_path / "odd", "--json").out)
    assert {label: part["size"] for label, part in value["within"].items()} == {"1": 3, "'1'": 2}
    assert value["fields"]["media_types"] == {"1": 5, "'1'": 6}


def test_a_folder_with_a_pipe_in_it(kluis: Kluis, tmp_path: Path) -> None:
    """A folder that holds a pipe where a report should be is refused, and not waited for."""
    (tmp_path / "provider").write_text("sev_guest\n", encoding="utf-8")
    os.mkfifo(tmp_path / "outblob")
    said = kluis(tmp_path)
    assert (said.code, "outblob: want a file, got another kind" in said.err) == (2, True)


def test_names_that_no_disk_has_room_for(kluis: Kluis, quote: Path, tmp_path: Path) -> None:
    """A file whose name leaves no room for a longer one in its folder is read; a longer name is not a bug."""
    long = tmp_path / ("q" * 250)
    quote.rename(long)
    assert kluis(long).code == 0
    said = kluis("x" * 5000)
    assert (said.code, "name a file or folder by a shorter name" in said.err) == (7, True)


def test_the_folder_that_one_is_in(kluis: Kluis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of configfs-tsm is read by the name of a dot, too."""
    (tmp_path / "provider").write_text("sev_guest\n")
    (tmp_path / "outblob").write_bytes(samples.make(3).encode())
    monkeypatch.chdir(tmp_path)
    assert kluis(".").out.startswith("kind   configfs-tsm report\n")


def test_configfs_tsm(kluis: Kluis, tmp_path: Path) -> None:
    """A folder of configfs-tsm is one report."""
    (tmp_path / "provider").write_text("sev_guest\n")
    (tmp_path / "outblob").write_bytes(samples.make(3).encode())
    value = json.loads(kluis(tmp_path, "--json").out)
    assert value["kind"] == "configfs-tsm report"
    assert value["within"]["evidence"]["kind"] == "SNP report v3"
    (tmp_path / "auxblob").write_bytes(b"")
    assert kluis(tmp_path).code == 0
    (tmp_path / "provider").unlink()
    assert kluis(tmp_path).code == 2


@pytest.mark.parametrize("name", GOOD)
def test_every_kind(name: str) -> None:
    """Every kind is shown to people, one field a line, and to machines as JSON."""
    found = sniff(GOOD[name])
    lines = list(text.lines(found))
    assert lines[0].split(None, 1) == ["kind", found.name]
    assert json.loads(json.dumps(recognised.value(found)))["kind"] == found.name


@pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no vectors in {VECTORS}: set KLUIS_VECTORS")
@pytest.mark.parametrize("role", [*ROLES, "ak_pub", "quote_sig", "original", "runtime_data"])
def test_recorded(role: str) -> None:
    """Recorded evidence of every role is shown in lines, and as JSON."""
    paths = [
        path.parent / meta["files"][role]["file"]
        for path in sorted(VECTORS.glob("*/*/meta.json"))
        if role in (meta := json.loads(path.read_text(encoding="utf-8")))["files"]
        and not meta["expected"]["outcome"].startswith("invalid")
    ]
    assert paths
    for path in paths[:3]:
        try:
            found = sniff(path.read_bytes())
        except KluisError:
            assert role == "original"
            continue
        assert not any("\n" in line for line in text.lines(found))
        assert json.loads(json.dumps(recognised.value(found)))["size"] == found.size


def test_noise(kluis: Kluis, tmp_path: Path) -> None:
    """Noise is a format error, exit 3, and so is a quote that is cut short."""
    (tmp_path / "noise").write_bytes(b"\xfe\xff noise")
    said = kluis(tmp_path / "noise")
    assert (said.code, said.out) == (3, "")
    assert said.err.startswith("kluis: error: input: is of no kind known here\n")
    (tmp_path / "cut").write_bytes(SGX.quote()[:40])
    assert "DCAP quote v3.header at 0x0: needs 48 bytes, 40 left\n" in kluis(tmp_path / "cut").err


def test_missing(kluis: Kluis, tmp_path: Path) -> None:
    """A file that is not there is a usage error that names it."""
    said = kluis(tmp_path / "gone")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(
        f"kluis: error: {tmp_path / 'gone'}: cannot be read: No such file or directory\n"
    )


def test_bound(kluis: Kluis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without end is not read without end."""
    monkeypatch.setattr(inspecting, "MAX_SIZE", 100)
    (tmp_path / "large").write_bytes(bytes(101))
    said = kluis(tmp_path / "large")
    assert said.code == 3
    assert said.err.startswith(f"kluis: error: {tmp_path / 'large'}: is more than 100 bytes\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", [b"\0", b"a", b"{", b'{"a":', b"0\x84\xff", b"-----BEGIN CERTIFICATE-----\n", b'["']
)
def test_64_mebibytes_of_anything(unit: bytes) -> None:
    """64 MiB of anything are refused in a second or two, in bounded memory."""
    data = (unit * ((64 << 20) // len(unit)))[: 64 << 20]
    tracemalloc.start()
    with within(6), pytest.raises(KluisError):
        sniff(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400 << 20


def test_control_letters_are_not_printed() -> None:
    """Control characters from evidence are not printed, so that they cannot steer the terminal."""
    data = Collection({"a": Part(OCTETS, b"x")}).encode()
    found = Found(name="a\x1b[31m", size=1, value=Collection.parse(data))
    assert "\x1b" not in "\n".join(text.lines(found))


def test_long_names_and_values() -> None:
    """However long, a name and its value are on one line, where a pipe finds them whole."""
    assert text._row("n" * 30, "v" * 100, "  ", 24) == "  " + "n" * 30 + "  " + "v" * 100
    assert text._row("n", "v", "", 4) == "n     v"
    assert text._row("n", "", "", 4) == "n"


@pytest.mark.parametrize("columns", [80, 100])
def test_a_digest_is_copied_whole(
    kluis: Kluis, quote: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """On a screen, too, no digest is cut: one that does not fit after its name is printed below it."""
    piped = kluis(quote).out
    measured = next(line for line in piped.splitlines() if line.startswith("mrenclave"))
    name, value = measured.split()
    assert (len(measured), len(value)) == (85, 64)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown = kluis(quote).out
    assert (f"{measured}\n" if columns == 100 else f"{name}\n  {value}\n") in shown
    words = [word for word in piped.split() if len(word) > 60]
    assert words
    assert all(word in shown.split() for word in words)


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        (True, "yes"),
        (None, "none"),
        ("", "none"),
        ([], "none"),
        ([1, "a"], "1, a"),
        ("00" * 48, "zeros (48 bytes)"),
        (3, "3"),
    ],
)
def test_shown(item: Any, shown: str) -> None:
    """How a field is put in words."""
    assert text._format_item(item) == shown


@pytest.mark.parametrize(
    ("algorithms", "shown"),
    [((), "no bank that is known"), (((0x99, 32),), "no bank that is known"), (((0x12, 32),), None)],
)
def test_log_that_cannot_be_replayed(algorithms: tuple[tuple[int, int], ...], shown: str | None) -> None:
    """A log of banks that are not handled is shown all the same, and why it is not replayed."""
    log = EventLog(algorithms=algorithms, agile=True, events=(), padding=b"")
    replay = fields(log)["replay"]
    assert isinstance(replay, str)
    assert replay == shown or shown is None


def test_json_of_anything() -> None:
    """What no case names is written as text."""
    assert recognised.json(1.5) == "1.5"


def test_wrapper() -> None:
    """A wrapper is shown, and what is within below it."""
    found = sniff(oe.encode_report(SGX.quote()))
    lines = list(text.lines(found))
    assert lines[0].split(None, 1) == ["kind", "Open Enclave report"]
    assert lines[lines.index("evidence:") + 1].split(None, 1) == ["kind", "SGX quote v3"]


def test_an_image(kluis: Kluis, tmp_path: Path) -> None:
    """An image is shown by what its manifest states, and the command that checks it is named."""
    data = image_samples.image()
    (tmp_path / "hello.kluis").write_bytes(data)
    said = kluis(tmp_path / "hello.kluis")
    rows = dict(line.split(maxsplit=1) for line in said.out.splitlines()[:8])
    found = archive.read_image(io.BytesIO(data))
    assert (said.code, rows["kind"], rows["size"]) == (0, "Kluis image", f"{len(data)} bytes")
    assert (rows["image_id"], rows["name"]) == (found.image_id.hex(), found.manifest.name)
    assert "nothing above is verified: kluis measure " in " ".join(said.out.split())
    value = json.loads(kluis(tmp_path / "hello.kluis", "--json").out)
    assert (value["verified"], value["kind"]) == (False, "Kluis image")
    assert (value["image_id"], value["python"]) == (found.image_id.hex(), found.manifest.python)
    assert [each["name"] for each in value["layers"]] == [each.name for each in found.layers]
    assert inspect_image.MAGIC == archive.MAGIC


def test_a_damaged_image(kluis: Kluis, tmp_path: Path) -> None:
    """A file that begins like an image but is damaged is refused by the format."""
    (tmp_path / "hello.kluis").write_bytes(image_samples.image()[:-1])
    said = kluis(tmp_path / "hello.kluis")
    assert (said.code, said.out) == (3, "")
    assert said.err.startswith("kluis: error: layer ")
