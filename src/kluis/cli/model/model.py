"""``kluis model``: seal the weights of a model, show a sealed one, and unlock one inside an enclave."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from kluis import files as bounded
from kluis.cli import render
from kluis.cli.evidence import files, roots
from kluis.cli.parameters import argument, option
from kluis.errors import UsageError
from kluis.formats.kluis.sealed_model import Header
from kluis.host import models

_MAX_SEALED_KEY: Final = 4096
_Key = Annotated[Path, option("The model's key: a JWK of type oct.", "FILE", "--key")]
_Sealed = Annotated[Path, argument("A sealed model.", "FILE")]


def seal(
    folder: Annotated[Path, argument("Its files.", "DIR")],
    output: Annotated[Path, option("The sealed model to write.", "FILE", "-o", "--output")],
    key: _Key,
) -> None:
    """Encrypt the files of a folder under a key.

    If the key file does not exist, it is generated.

    For example: kluis model seal weights -o weights.sealed --key weights.jwk
    """
    if output.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{output}: want a file outside {folder}, which is sealed", hint="-o ../weights.sealed"
        )
    models.files_of(folder)  # a folder that cannot be sealed gets no key
    if generated := not key.exists():
        secret = models.new_key(key)
        render.note(f"generated the model's key, {key}: anyone who has it can read the weights")
    else:
        secret = models.read_key(key)
    header = models.seal_model(folder, output, secret)
    _print(header, output, {"key_generated": generated})


def show(file: _Sealed) -> None:
    """Print a sealed model's id and files, unverified.

    No key is needed.
    """
    _print(models.read_header(file), file, {})


def _print(header: Header, path: Path, more: dict[str, bool]) -> None:
    value = {
        "path": str(path),
        "model_id": header.model_id().hex(),
        "files": [{"name": one.name, "size": one.size} for one in header.files],
        **more,
    }
    rows = [("model", str(path)), ("model_id", header.model_id().hex())]
    rows += [("file", f"{one.name} ({one.size} bytes)") for one in header.files]
    render.out(value, render.table(rows))


def unlock(
    url: Annotated[str, argument("The enclave: https://host[:port].")],
    policy: Annotated[Path, option("A policy for the enclave, of purpose channel.", "FILE")],
    key: Annotated[Path | None, option("The model's key: a JWK of type oct.", "FILE")] = None,
    sealed_key: Annotated[Path | None, option("Or the key as this image sealed it before.", "FILE")] = None,
    output: Annotated[
        Path | None, option("Save the key, sealed to the enclave.", "FILE", "-o", "--output")
    ] = None,
    root: roots.Only = None,
    collateral: Annotated[Path | None, option("Collateral; by default of this machine.", "FILE")] = None,
) -> None:
    """Send a model's key to an enclave that meets a policy.

    The enclave opens its sealed model with the key.

    The key leaves only after the enclave was verified. The enclave returns the key sealed to its image and
    platform. With that file, an operator who does not have the key unlocks the enclave after a restart.
    """
    if (key is None) is (sealed_key is None):
        hint = "--key weights.jwk"
        raise UsageError("unlock: want --key FILE or --sealed-key FILE, one of the two", hint=hint)
    from kluis.client.unlocking import unlock_model  # httpx, which sealing does without

    unlocked = unlock_model(
        url,
        None if key is None else models.read_key(key),
        policy=policy,
        sealed_key=None if sealed_key is None else bounded.read(sealed_key, _MAX_SEALED_KEY),
        root=None if root is None else roots.one(root),
        collateral=None if collateral is None else files.read(collateral),
    )
    rows = [("unlocked", url), ("model_id", unlocked.model_id)]
    if output is not None:
        render.save(output, unlocked.sealed_key)
        rows.append(("sealed key", str(output)))
    render.out({"url": url, "model_id": unlocked.model_id}, render.table(rows))


COMMANDS = (seal, show, unlock)
