"""Keys of a machine's vTPM: one image in each boot gets them, and only its launch opens what was released."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kluis.enclave.store import SealedStore
from kluis.errors import FormatError, RemoteError
from kluis.evidence.tpm.key import area_of
from kluis.formats.kluis import machine_key
from kluis.formats.kluis.machine_key import MachineOffer, Offer, Open, Opened, Refused
from kluis.formats.tpm import attest, certify
from kluis.formats.tpm.public import Attribute, parse_decryption
from kluis.hashes import sha256
from kluis.host.machines import guest_request
from kluis.host.proxy import EnclaveProxy
from kluis.services.attestation.settings import Root
from kluis.tee.drivers.azure import Azure
from kluis.tee.inside.keys import MachineKeys
from kluis.tee.tpm.tpm import Tpm
from kluis.tee.tpm.transport import Transport
from kluis.tee.vm.machine import tpm as vtpm
from kluis.tee.vm.processor import measured, paravisor
from kluis.testing.plugin import enclave, storage
from tests.authority.amd.chips import GUEST, chip
from tests.enclave.released import ReleasingVault
from tests.evidence.forge import Forge
from tests.launching import rehearsal_platform
from tests.services.attestation.world import PERMIT, World, claims_of
from tests.services.keyvault.world import claims as usual
from tests.services.keyvault.world import sign
from tests.services.web.issuer import NOW, FixedClock

__all__ = ["enclave", "rehearsal_platform", "storage"]

pytestmark = pytest.mark.skipif(shutil.which("swtpm") is None, reason="apt-get install swtpm")
APP = Path(__file__).parent / "keeping" / "app.py"
PROCESSOR = chip(now=datetime.now(UTC))
SECRET = bytes(range(32))
IMAGE, OTHER = sha256(b"an image"), sha256(b"another")
Launch = Callable[..., EnclaveProxy]


class Shared(Tpm):
    """The vTPM of a machine that runs: each user opens it, and none closes it for the others."""

    def __exit__(self, *_: object) -> None:
        """It stays."""


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[MachineKeys]:
    """Those of a machine whose host left what Azure's paravisor leaves."""
    with vtpm.power(tmp_path / "tpm", SECRET) as own, Tpm(Transport(own.commands)) as before:
        paravisor.leave(before, PROCESSOR, measured.describe_launch(GUEST))
    with vtpm.power(tmp_path / "tpm", SECRET) as own:
        transport = Transport(own.commands)
        with Tpm(transport):
            yield machine_keys(transport, tmp_path)


def machine_keys(transport: Transport, folder: Path) -> MachineKeys:
    driver = Azure(
        lambda: Shared(transport),
        event_log=folder / "none",
        certificates=lambda: {"certificates": PROCESSOR.certificates()},
    )
    return MachineKeys(lambda: driver, lambda: Shared(transport))


@pytest.fixture
def guests(storage: SealedStore) -> World:
    """A service that trusts the emulated processor, and permits a boot without a log."""
    clock = FixedClock(datetime.now(UTC))
    world = World(storage, clock=clock, roots=(Root(PROCESSOR.root_pem()),), collateral=())
    world.set_policy("AzureGuest", PERMIT)
    return world


class Launched:
    """The enclave's end of one launch."""

    def __init__(self, keys: MachineKeys, image_id: bytes = IMAGE) -> None:
        self.end, theirs = socket.socketpair()
        self._serving = threading.Thread(target=keys.serve, args=(theirs, image_id))
        self._serving.start()
        self._received = self.end.makefile("rb")

    def ask(self, request: machine_key.Request) -> machine_key.Reply:
        return self.send(machine_key.encode(request))

    def send(self, data: bytes) -> machine_key.Reply:
        self.end.sendall(data)
        size = machine_key.read_size(self._received.read(machine_key.SIZE_BYTES))
        return machine_key.read_reply(self._received.read(size))

    def ended(self) -> bool:
        return self._received.read(1) == b""

    def __enter__(self) -> Launched:
        return self

    def __exit__(self, *_: object) -> None:
        self._received.close()
        self.end.close()
        self._serving.join(60)
        assert not self._serving.is_alive()


def offered(reply: machine_key.Reply) -> MachineOffer:
    assert isinstance(reply, MachineOffer), reply
    return reply


def refused(reply: machine_key.Reply) -> str:
    assert isinstance(reply, Refused), reply
    return reply.message


def test_an_offer(keys: MachineKeys) -> None:
    """The key is the TPM's own, certified, and named by the quote's nonce; each launch has another one."""
    with Launched(keys) as one:
        first, again = (offered(one.ask(Offer(b"fresh"))) for _ in range(2))
    area = parse_decryption(first.key)
    assert not area.attributes & (Attribute.RESTRICTED | Attribute.SIGN)
    assert certify.parse(first.certification).name == area.name
    assert attest.parse(first.quote).extra_data == sha256(first.key + b"fresh")
    assert again.key == first.key
    assert area_of(first.attestation_key).attributes & Attribute.RESTRICTED
    with Launched(keys) as other:
        assert offered(other.ask(Offer(b""))).key != first.key


def test_one_image_claims_the_machine(keys: MachineKeys) -> None:
    """PCR 15 names the first image; another one gets no key in this boot, and opens nothing."""
    with Launched(keys) as one:
        quoted = json.loads(offered(one.ask(Offer(b""))).pcrs)
    assert bytes.fromhex(quoted["sha256"]["15"]) == sha256(bytes(32) + IMAGE)
    with Launched(keys, OTHER) as other:
        assert refused(other.ask(Offer(b""))) == (
            f"machine key: image id: want {IMAGE.hex()}, which claimed this machine, got {OTHER.hex()}"
        )
        assert "want an offer before" in refused(other.ask(Open(b"x", "rsaes")))


def test_bad_requests(keys: MachineKeys) -> None:
    """Each is refused with what is wrong; one that is cut or too large ends the connection."""
    with Launched(keys) as one:
        assert "want an offer before something is opened" in refused(one.ask(Open(b"x", "rsaes")))
        one.ask(Offer(b""))
        assert "scheme: want rsaes or oaep-sha256, got 'none'" in refused(one.ask(Open(b"x", "none")))
        assert "RSA_DECRYPT" in refused(one.ask(Open(b"x" * 256, "oaep-sha256")))
        assert "want at most 64 bytes, got 65" in refused(one.ask(Offer(bytes(65))))
        assert "want at most 512 bytes, got 513" in refused(one.ask(Open(bytes(513), "rsaes")))
        assert "machine key: request:" in refused(one.send((3).to_bytes(4, "little") + b"abc"))
        one.end.sendall(b"\xff" * 4)
        assert one.ended()
    with pytest.raises(FormatError, match="at most 262144 bytes"):
        machine_key.read_size(b"\xff" * 4)
    with pytest.raises(FormatError, match="machine key: reply:"):
        machine_key.read_reply(b"\xc1")
    assert "secret" not in repr(Opened(b"secret"))


def test_no_vtpm(tmp_path: Path) -> None:
    """Without a vTPM that a processor names there is no key, and the reason states the boot that has one."""
    with Launched(MachineKeys(lambda: None)) as one:
        assert "want a machine with a vTPM" in refused(one.ask(Offer(b"")))


def test_a_key_released_to_a_machine(keys: MachineKeys, guests: World, enclave: Launch) -> None:
    """From an offer to the material: the token names guest and image, and no other launch opens it."""
    vault = ReleasingVault(Forge(now=NOW))
    ours, theirs = socket.socketpair()
    ours_2, theirs_2 = socket.socketpair()
    with ours, ours_2:
        running = enclave(APP, sockets={machine_key.GRANT: theirs})
        beside = enclave(APP, sockets={machine_key.GRANT: theirs_2})
        for end in (ours, ours_2):
            threading.Thread(target=keys.serve, args=(end.dup(), IMAGE), daemon=True).start()
        theirs.close()
        theirs_2.close()
        answer = guests.attest("AzureGuest", guest_request(running.offer(b"")))
        assert answer.status_code == 200, answer.text
        token = running.token(answer.json()["token"])
        claims = guests.verified(token)
        assert claims["x-kluis-pcrs"]["pcr15"] == sha256(bytes(32) + IMAGE).hex()
        assert claims["x-ms-isolation-tee"]["x-ms-sevsnpvm-launchmeasurement"] == GUEST.hex()
        beside.offer(b"")
        with pytest.raises(RemoteError, match="token envelope: cannot be opened by this enclave"):
            beside.token(answer.json()["token"])

        kept = vault.keep(b"\7" * 32)
        release = released(vault, claims_of(token))
        assert running.opened(release, vault.brought(), vault.expected(), NOW) == kept
        with pytest.raises(RemoteError, match="released key: cannot be opened by this enclave"):
            beside.opened(release, vault.brought(), vault.expected(), NOW)
        other = released(vault, claims_of(token), "RSA_AES_KEY_WRAP_384")
        with pytest.raises(RemoteError, match="want TpmEphemeralEncryptionKey by RSA_AES_KEY_WRAP_256"):
            running.opened(other, vault.brought(), vault.expected(), NOW)


def released(vault: ReleasingVault, claims: dict[str, Any], mechanism: str = "RSA_AES_KEY_WRAP_256") -> str:
    """A release to the key of a token, by the authority that the tests' vault trusts."""
    runtime = {**claims["x-ms-runtime"], "purpose": "release-key"}
    answer = vault.world.release(sign({**usual(), "x-ms-runtime": runtime}), "k", enc=mechanism)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["value"])


def test_outside_of_a_machine(enclave: Launch) -> None:
    """An enclave without the socket states what it needs."""
    with pytest.raises(RemoteError, match="the image has no such grant"):
        enclave(APP).offer(b"")
