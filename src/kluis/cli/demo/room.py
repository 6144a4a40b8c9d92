"""Attackers who have the files, the network and the enclave's cooperation, but not its memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from kluis.cleanroom.agreement import exchange
from kluis.cleanroom.agreement.documents import decode, encode
from kluis.cleanroom.agreement.exchange import Evidence, Offer
from kluis.cleanroom.agreement.keys import SealingKey
from kluis.cli.demo.attempt import Attempt, expect_refusal
from kluis.cli.demo.cohort import count_marks
from kluis.cli.demo.stage import Stage, now
from kluis.hashes import sha256
from kluis.host.proxy import EnclaveProxy
from kluis.tee import author_keys, sigstruct
from kluis.tee.image import read_image, signing


def attempts(stage: Stage, enclave: EnclaveProxy, answered: Offer) -> Iterator[Attempt]:
    """Every attempt of these attackers, one by one.

    Args:
        stage: set up, and run once.
        enclave: the genuine one, after its run.
        answered: an offer of it that the clinic has answered.
    """
    yield opens_files(stage)
    yield changed_byte(stage)
    yield another_signer(stage)
    yield debug_build(stage)
    yield swapped_data(stage)
    yield replay_evidence(stage, answered)
    yield relay(stage, enclave)


def opens_files(stage: Stage) -> Attempt:
    """The operator reads every file that passes through."""
    read, marks = 0, 0
    for path in stage.room.path.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            read, marks = read + len(data), marks + count_marks(data)
    outcome = f"{read / 1e6:.1f} MB read, {marks} of {len(stage.tables['people']):,} patients found"
    return Attempt("operator", "opens every file of the room, results included", outcome, marks == 0)


def changed_byte(stage: Stage) -> Attempt:
    """The operator changes one byte of the code, and the hashes that lead to it; the signature stays."""
    tried = "changes one byte of the code, and its hashes"
    changed = stage.folder / "changed.kluis"
    shutil.copy(stage.image, changed)
    with changed.open("r+b") as file:
        image = read_image(file)
        layer = image.layer("app")
        if layer is None:
            return Attempt("operator", tried, "the image has no code", False)
        entry = next(entry for entry in layer.files if entry.path == "app.py")
        file.seek(layer.data_offset + entry.offset)
        code = file.read(entry.size)
        other = code.replace(b"clean", b"clear", 1)
        file.seek(layer.data_offset + entry.offset)
        file.write(other)
        size = next(each.index_size for each in image.manifest.layers if each.name == "app")
        file.seek(layer.data_offset - 8 - size)
        index = file.read(size)
        forged = index.replace(sha256(code).hex().encode(), sha256(other).hex().encode())
        file.seek(-size, os.SEEK_CUR)
        file.write(forged)
        file.seek(0)
        head = file.read(image.sigstruct_offset)
        file.seek(0)
        file.write(head.replace(sha256(index).hex().encode(), sha256(forged).hex().encode()))
    try:
        return expect_refusal(
            "operator",
            tried,
            "not started: its author signed other code",
            lambda: stage.start(changed).close(),
        )
    finally:
        changed.unlink()


def another_signer(stage: Stage) -> Attempt:
    """Another signer signs the same code and requests the data."""
    path = stage.folder / "other.kluis"
    signing.sign(stage.image, author_keys.generate(), path)
    try:
        return _ask_for_keys(stage, path, "another author", "signs the same code, and requests the data")
    finally:
        path.unlink()


def debug_build(stage: Stage) -> Attempt:
    """The author makes a debug build, whose memory its host may read."""
    path = stage.folder / "debug.kluis"
    shutil.copy(stage.image, path)
    with path.open("rb") as file:
        image = read_image(file)
    manifest = image.manifest
    struct = sigstruct.build_unsigned(
        image.image_id, product_id=manifest.product_id, svn=manifest.svn, date=manifest.date, debug=True
    )
    key = signing.author_key(stage.folder / "author.pem")
    with path.open("r+b") as file:
        file.seek(image.sigstruct_offset)
        file.write(sigstruct.sign(struct, key).encode())
    try:
        return _ask_for_keys(stage, path, "the author", "makes a debug build, open to its host")
    finally:
        path.unlink()


def swapped_data(stage: Stage) -> Attempt:
    """The operator replaces one sealed file with another."""

    def act() -> None:
        with stage.start() as enclave:
            enclave.call("begin", encode(stage.room.signed_agreement()))
            enclave.call("add_file", "labs", stage.sealed_file("people"))

    return expect_refusal(
        "operator", "passes one sealed data set for the other", "the enclave does not take it", act
    )


def replay_evidence(stage: Stage, answered: Offer) -> Attempt:
    """The operator replays evidence that was already answered once."""
    return expect_refusal(
        "operator",
        "replays evidence that got the keys before",
        "the clinic sends no key",
        lambda: stage.owner("clinic").release(answered, stage.platform.collateral(), now()),
    )


def relay(stage: Stage, enclave: EnclaveProxy) -> Attempt:
    """The operator lets the genuine enclave attest a key of the operator."""

    def act() -> None:
        owner = stage.owner("clinic")
        challenge = owner.challenge()
        mine = SealingKey.generate()
        payload = exchange.offer_payload(stage.agreement.hash, os.urandom(32).hex(), "clinic", mine.public)
        made = enclave.evidence(challenge.nonce, payload)
        evidence = Evidence(
            quote=made.quote, runtime_data=made.runtime_data, launch_configuration=made.launch_configuration
        )
        owner.release(Offer(party="clinic", evidence=evidence), stage.platform.collateral(), now())

    return expect_refusal(
        "operator", "has the genuine enclave quote the operator's own key", "the clinic sends no key", act
    )


def _ask_for_keys(stage: Stage, path: Path, who: str, tried: str) -> Attempt:
    def act() -> None:
        with stage.start(path) as enclave:
            enclave.call("begin", encode(stage.room.signed_agreement()))
            owner = stage.owner("clinic")
            offer = decode(enclave.call("offer", encode(owner.challenge())), Offer, "offer")
            owner.release(offer, stage.platform.collateral(), now())

    return expect_refusal(who, tried, "the clinic sends no key", act)
