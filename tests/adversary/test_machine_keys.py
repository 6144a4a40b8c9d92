"""A host that wants the key of a machine's vTPM for itself, or another system that runs on that machine."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from kluis.errors import RemoteError, UsageError
from kluis.formats.hcl.vtpm import AK
from kluis.formats.kluis.machine_key import GRANT, Offer, Refused, encode, read_reply, read_size
from kluis.formats.tpm.command import ENDORSEMENT
from kluis.host.machines import guest_request
from kluis.host.proxy import EnclaveProxy
from kluis.tee.inside.agent import Launching
from kluis.tee.inside.keys import MachineKeys
from kluis.tee.tpm import keys
from kluis.tee.tpm.tpm import Tpm
from kluis.tee.tpm.transport import Transport
from kluis.tee.vm.machine import tpm as vtpm
from kluis.tee.vm.processor import measured, paravisor
from kluis.testing.plugin import enclave, storage
from tests.authority.amd.chips import GUEST
from tests.launching import rehearsal_platform
from tests.services.attestation.world import World
from tests.tee.inside.test_keys import PROCESSOR, SECRET, Launched, guests, machine_keys, offered

__all__ = ["enclave", "guests", "rehearsal_platform", "storage"]

APP = Path(__file__).parents[1] / "tee" / "inside" / "keeping" / "app.py"


@pytest.mark.parametrize(
    ("lack", "words"),
    [
        ("debug", "want an enclave whose memory its host cannot read, got a debug one"),
        ("guardian", "want a launch with every protection, got one without: guardian"),
    ],
)
def test_a_launch_that_lets_its_host_look(lack: str, words: str) -> None:
    """A debug enclave, and one without a protection, get no key, and do not claim the machine."""
    driven: list[str] = []
    given = MachineKeys(lambda: driven.append("asked"))  # type: ignore[func-returns-value]
    ours, theirs = socket.socketpair()
    serving = threading.Thread(target=given.serve, args=(theirs, bytes(32), lack))
    serving.start()
    with ours, ours.makefile("rb") as received:
        ours.sendall(encode(Offer(b"")))
        reply = read_reply(received.read(read_size(received.read(4))))
    serving.join(60)
    assert isinstance(reply, Refused)
    assert (reply.code, reply.message) == ("launch_lacks", f"machine key: {words}")
    assert not driven


def test_the_hosts_own_socket() -> None:
    """In a machine the host cannot put its socket in the place of the agent's."""
    with pytest.raises(UsageError, match="want none from the host: the machine has it"):
        Launching().grant([GRANT])
    launching = Launching()
    launching.grant_keys()
    assert launching.connect(GRANT) is None
    launching.close()


def test_a_host_that_plays_the_agent(enclave: Callable[..., EnclaveProxy]) -> None:
    """Outside of a machine the host may answer anything: no answer opens a token or a key."""
    for answer in (b"", b"\xff" * 4, (1).to_bytes(4, "little") + b"\xc1", encode(Offer(b""))):
        ours, theirs = socket.socketpair()
        with ours:
            running = enclave(APP, sockets={GRANT: theirs})
            theirs.close()
            asking = running.offer.submit(b"")
            assert ours.recv(4)
            ours.sendall(answer)
            ours.shutdown(socket.SHUT_WR)
            with pytest.raises(RemoteError, match="machine key: "):
                asking.result(120)


@pytest.mark.skipif(shutil.which("swtpm") is None, reason="apt-get install swtpm")
def test_a_key_of_the_system_that_ran_before(tmp_path: Path, guests: World) -> None:
    """The attestation key outlives a boot: it certifies a key of any system, and later quotes the right one.

    The host's own system makes a key that no policy binds, has it certified, and keeps the template. Then the
    right guest boots, with its image, and the host sends that guest's quote with its own key.
    """
    template = keys.decryption(bytes(range(256))).encode()
    with vtpm.power(tmp_path / "tpm", SECRET) as own, Tpm(Transport(own.commands)) as tpm:
        paravisor.leave(tpm, PROCESSOR, measured.describe_launch(GUEST))
    with (
        vtpm.power(tmp_path / "tpm", SECRET) as own,
        Tpm(Transport(own.commands)) as tpm,
        tpm.holding(tpm.create_primary(ENDORSEMENT, template)) as key,
    ):
        planted = tpm.read_public(key).encode()
        certification, signature = tpm.certify(key, AK)
    with vtpm.power(tmp_path / "tpm", SECRET) as own:
        transport = Transport(own.commands)
        with Tpm(transport), Launched(machine_keys(transport, tmp_path)) as launched:
            offer = offered(launched.ask(Offer(b"")))
    assert guests.attest("AzureGuest", guest_request(offer)).status_code == 200
    mixed = structs.replace(
        offer, key=planted, certification=certification, certification_signature=signature.encode()
    )
    answer = guests.attest("AzureGuest", guest_request(mixed))
    with (
        vtpm.power(tmp_path / "tpm", SECRET) as own,
        Tpm(Transport(own.commands)) as tpm,
        tpm.holding(tpm.create_primary(ENDORSEMENT, template)) as key,
    ):
        assert tpm.read_public(key).encode() == planted  # it would open what is encrypted to it
    assert answer.status_code == 400
    assert "want a key certified in the boot that was quoted" in answer.text
