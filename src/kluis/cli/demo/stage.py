"""The demo's setup: a temporary folder with two owners, a room, an image and an enclave; removed at the
end.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

import kluis
from kluis.cleanroom.agreement import agreement as agreements
from kluis.cleanroom.agreement import fingerprint
from kluis.cleanroom.agreement.agreement import Agreement, Dataset
from kluis.cleanroom.agreement.documents import hash_of
from kluis.cleanroom.data import datasets, terms_toml
from kluis.cleanroom.records.home import DataKey, Home
from kluis.cleanroom.records.rooms import Room
from kluis.cleanroom.records.trust import Trust
from kluis.cleanroom.running import conduct
from kluis.cleanroom.running.release import Owner
from kluis.cleanroom.signing import approval, plan
from kluis.cli.demo import cohort
from kluis.errors import UnavailableError
from kluis.formats.kluis.launch import LaunchConfiguration
from kluis.host import load
from kluis.host.proxy import EnclaveProxy
from kluis.tee.image.build import builder
from kluis.tee.measure import image as measure
from kluis.tee.platform.client import Platform

ENDING_SECONDS = 5.0
OWNERS = {"clinic": "The clinic", "laboratory": "The laboratory"}


class Stage:
    """Everything that the demo creates.

    Attributes:
        ``lacks``: protections that this machine does not have; evidence and agreement state them.
    """

    def __init__(self) -> None:
        self.platform = Platform.connect()  # first: a machine without one is left as it was
        self._held = contextlib.ExitStack()
        self._held.enter_context(self.platform.hold())  # a slow machine builds longer than an idle one waits
        self.folder = Path(tempfile.mkdtemp(prefix="kluis-demo-"))
        self.folder.chmod(0o755)
        self.example = self.folder / "nafld"
        self.lacks: frozenset[str] = frozenset()
        self._started: list[int] = []
        self.image = self.folder / "nafld.kluis"
        self.room: Room
        self.homes: dict[str, Home] = {}
        self.tables: dict[str, pl.DataFrame] = {}
        self.fingerprints: dict[str, str] = {}
        self.agreement: Agreement

    def close(self, *, stop: bool) -> None:
        """Remove what was created; stop the platform, unless another user's enclave runs on it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        until = time.monotonic() + ENDING_SECONDS
        while any(map(_lives, self._started)) and time.monotonic() < until:
            time.sleep(0.05)
        self._held.close()
        if stop and not self.platform.status()["enclaves"]:
            self.platform.stop()

    def build(self) -> builder.Built:
        """Build the code that will run inside, and determine which protections this machine does not have."""
        shutil.copytree(example(), self.example)
        built = builder.build(self.example, self.image, self.folder / "author.pem")
        possible = frozenset({*self.platform.status()["missing"], "secret-memory"})
        with load(self.image, insecure_allow_missing=possible) as enclave:
            self.lacks = frozenset(LaunchConfiguration.parse(enclave.launch_configuration).missing)
        return built

    def seal(self) -> dict[str, tuple[int, int]]:
        """Each owner makes keys and seals its table: plain bytes and sealed bytes, by data set."""
        self.room = Room.create(
            self.folder / "room",
            "Five years with a fatty liver",
            "Learn whether lab values help to foresee death",
        )
        self.tables = {"people": cohort.people(), "labs": cohort.labs()}
        sizes = {}
        for (party, name), (dataset, table) in zip(OWNERS.items(), self.tables.items(), strict=True):
            home = self.homes[party] = Home.create(self.folder / "homes" / party, party)
            self.room.join(
                home, home.public(name, ("owner", "recipient") if party == "clinic" else ("owner",))
            )
            agreed = terms_toml.read_terms((self.example / f"{dataset}.toml").read_text(), table, now())
            key = datasets.new_key()
            sealed = datasets.seal(table, key, self.room.file.room, dataset, 1, agreed)
            described = Dataset(
                id=dataset, version=1, owner=party, terms=agreed, parts=datasets.describe([sealed])
            )
            home.keep_key(
                DataKey(
                    room=self.room.file.room,
                    dataset=dataset,
                    version=1,
                    terms=hash_of(agreed),
                    parts=tuple(part.sha256 for part in described.parts),
                    key=key,
                )
            )
            self.room.add_dataset(home, described, (sealed,))
            sizes[dataset] = (int(table.estimated_size()), len(sealed))
        self._compare()
        return sizes

    def _compare(self) -> None:
        """Each owner confirms the other's fingerprint: from the other's own folder, not the room's."""
        self.fingerprints = {
            party: fingerprint.of(home.public(party, ("owner",))) for party, home in self.homes.items()
        }
        for party, home in self.homes.items():
            for other in self.homes.keys() - {party}:
                Trust(home).confirm(self.room.party(other), self.fingerprints[other])

    def agree(self) -> Agreement:
        """The clinic proposes, both sign."""
        measured = measure.measure(self.image)
        if measured.mrsigner is None:
            raise UnavailableError("image: it is not signed")
        proposed = plan.read_plan((self.example / "plan.toml").read_text())
        inputs = plan.choose_inputs(self.room, proposed, self.homes.__contains__)
        self.agreement = plan.draft(
            self.room.file,
            plan.with_lacks(proposed, self.lacks),
            plan.choose_parties(self.room, proposed, inputs, self.homes),
            inputs,
            plan.Image(measured.image_id.hex(), measured.mrsigner.hex(), measured.image.manifest.product_id),
            (self.platform.root_pem().decode(),),
            now(),
        )
        self.room.propose(self.agreement)
        for party, home in self.homes.items():
            plan.check_analyses(self.agreement)
            approval.check_against_record(home, Trust(home, [self.platform.root_pem()]), self.agreement)
            self.room.add_signature(agreements.sign(self.agreement, party, home.signing))
            home.agree(self.agreement)
        return self.agreement

    def start(self, path: Path | None = None) -> EnclaveProxy:
        """Start an enclave of the image, or of another."""
        enclave = load(path or self.image, insecure_allow_missing=self.lacks)
        self._started.append(enclave.pid)
        return enclave

    def owner(self, party: str) -> Owner:
        """One owner's own client."""
        return Owner(self.homes[party], self.room.signed_agreement(), self.room.stops(self.room.proposal()))

    def participants(self) -> dict[str, conduct.Participant]:
        """Both owners, each with its own client."""
        return {party: conduct.LocalOwner(self.owner(party), now) for party in self.homes}

    def sealed_file(self, dataset: str) -> bytes:
        """A data set's sealed file."""
        return next(self.room.files(self.agreement.dataset(dataset)))


class Calls:
    """The enclave's calls, with the types that ``conduct`` needs."""

    def __init__(self, enclave: EnclaveProxy) -> None:
        self._enclave = enclave

    def begin(self, agreement: bytes) -> str:
        """Start the run."""
        return str(self._enclave.call("begin", agreement))

    def offer(self, challenge: bytes) -> bytes:
        """Answer a challenge."""
        return bytes(self._enclave.call("offer", challenge))

    def accept(self, release: bytes) -> None:
        """Take an owner's keys."""
        self._enclave.call("accept", release)

    def add_file(self, dataset: str, data: bytes) -> None:
        """Take a sealed file."""
        self._enclave.call("add_file", dataset, data)

    def run(self) -> tuple[dict[str, bytes], bytes]:
        """Run the analyses."""
        results, receipt = self._enclave.call("run")
        return results, receipt


def example() -> Path:
    """The folder of the example that the demo builds.

    Raises:
        UnavailableError: this is an installed package, without examples.
    """
    folder = Path(kluis.__file__).resolve().parents[2] / "examples" / "nafld"
    if not (folder / "app.py").is_file():
        raise UnavailableError(f"demo: want {folder}, found none", hint="run it in a checkout: make demo")
    return folder


def plain_process(stage: Stage, look: Callable[[int], int]) -> int:
    """Let an ordinary Python process load the clinic's table, and inspect it as an attacker would."""
    path = stage.folder / "plain.parquet"
    stage.tables["people"].write_parquet(path)
    code = "import polars,sys; t=polars.read_parquet(sys.argv[1]); print(len(t),flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            if process.stdout is not None:
                process.stdout.readline()
            return look(process.pid)
        finally:
            process.kill()
            path.unlink()


def _lives(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith(("Z", "X"))
    except OSError:
        return False


def now() -> datetime.datetime:
    """The current time on this machine."""
    return datetime.datetime.now(datetime.UTC)
