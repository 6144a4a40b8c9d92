"""``kluis build``, ``measure``, ``diff`` and ``sign``, as a person and a program use them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, utils

from kluis.cli.main import run
from kluis.hashes import sha256
from tests.tee.image import samples


def test_build_measure_and_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A build prints what measure prints; diff names the file that changed."""
    folder, key = samples.application(tmp_path / "hello"), str(tmp_path / "author.pem")
    one, two = str(tmp_path / "one.kluis"), str(tmp_path / "two.kluis")
    assert run(["build", str(folder), "-o", one, "--key", key, "--json"]) == 0
    built = json.loads(capsys.readouterr().out)

    assert run(["measure", one, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert {name: built[name] for name in ("image_id", "mrsigner", "debug")} == {
        name: measured[name] for name in ("image_id", "mrsigner", "debug")
    }
    assert measured["mrenclave"] == measured["image_id"]
    assert (measured["product_id"], measured["svn"]) == (7, 3)

    (folder / "app.py").write_text(samples.APP + "# more\n")
    assert run(["build", str(folder), "-o", two, "--key", key, "--debug"]) == 0
    assert "debug     on: protects nothing" in capsys.readouterr().out
    assert run(["diff", one, two]) == 0
    assert capsys.readouterr().out == (
        "the measurement changed\n"
        "files:\n  app/app.py: changed\n"
        "signature (not measured):\n  debug off -> on\n"
    )


def test_measure_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a person, measure is a table that holds every digest."""
    path = tmp_path / "a.kluis"
    path.write_bytes(samples.image())
    assert run(["measure", str(path)]) == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["mrsigner"] == "none: unsigned"
    assert rows["product_id"] == "7"
    assert rows["debug"] == "off"


def test_one_image_does_not_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An image and its copy have one measurement."""
    path = tmp_path / "a.kluis"
    path.write_bytes(samples.image())
    assert run(["diff", str(path), str(path)]) == 0
    assert capsys.readouterr().out == "the measurement is the same\n"


def test_a_key_kept_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The digest goes out, a signature made with openssl or an HSM comes in, and the image is launchable."""
    path, digest = tmp_path / "a.kluis", tmp_path / "digest.bin"
    path.write_bytes(samples.image())
    assert run(["sign", str(path), "--digest-out", str(digest)]) == 0
    assert capsys.readouterr().out.strip() == digest.read_bytes().hex()

    made = samples.key().sign(digest.read_bytes(), padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
    (tmp_path / "signature.bin").write_bytes(made)
    public = samples.key().public_key()
    (tmp_path / "public.pem").write_bytes(
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    arguments = ["--signature", str(tmp_path / "signature.bin"), "--public", str(tmp_path / "public.pem")]
    assert run(["sign", str(path), *arguments]) == 0
    n = public.public_numbers().n
    assert capsys.readouterr().out == f"mrsigner  {sha256(n.to_bytes(384, 'little')).hex()}\n"
    assert path.read_bytes() == samples.image(signer=samples.key())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("build DIR -o x.kluis", 2, "build: want --key PEM or --unsigned, one of the two"),
        ("build DIR/nowhere -o x.kluis --unsigned", 2, "DIR/nowhere: want a folder, got nothing"),
        ("measure DIR/text", 3, "image.magic at 0x0: want b'KLUIS\\x00\\x01\\n', got b'hello'"),
        ("measure DIR/nowhere", 2, "DIR/nowhere: cannot be read: No such file or directory"),
        ("sign DIR/a.kluis", 2, "sign: want one of --key, --digest-out and --signature"),
        ("sign DIR/a.kluis --signature s", 2, "sign: want --public PEM with --signature, and only with it"),
        (
            "sign DIR/a.kluis --key DIR/text",
            2,
            "DIR/text: want an unencrypted PEM private key, got something else",
        ),
    ],
)
def test_what_is_wrong_and_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: str, code: int, message: str
) -> None:
    """Each mistake is one line on stderr, with the exit code of its kind, and nothing on stdout."""
    (tmp_path / "text").write_text("hello")
    (tmp_path / "a.kluis").write_bytes(samples.image())
    assert run(arguments.replace("DIR", str(tmp_path)).split()) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[0] == f"kluis: error: {message.replace('DIR', str(tmp_path))}"
