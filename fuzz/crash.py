"""A finding becomes a vector: the bytes, and beside them what they should have come to."""

from __future__ import annotations

from pathlib import Path

from kluis.hashes import sha256

FOLDER = Path(__file__).resolve().parents[1] / "vectors" / "crashes"


def keep(target: str, data: bytes, said: str, folder: Path = FOLDER) -> Path:
    """Write ``<folder>/<target>/<digest>.bin`` and ``.toml``; gives the path of the bytes.

    Args:
        target: that broke.
        data: the input.
        said: what it broke with.
        folder: of all findings.
    """
    digest = sha256(data).hex()
    path = folder / target / f"{digest[:16]}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    lines = {
        "expect": "KluisError",
        "message": "",
        "source": f"fuzzed: {target} ended with {said[:200]}",
        "sha256": digest,
    }
    path.with_suffix(".toml").write_text(
        "".join(f"{name:7} = {_quoted(text)}\n" for name, text in lines.items()), encoding="utf-8"
    )
    return path


def _quoted(text: str) -> str:
    shown = text.encode("unicode_escape").decode()
    return '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'
