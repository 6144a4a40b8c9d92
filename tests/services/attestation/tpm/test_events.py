"""Events as published policies query them: of Windows' start, of Linux while it runs, of the boot before."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from kluis.enclave.store import SealedStore
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.eventlog.ima import Record
from kluis.formats.eventlog.sipa import Sipa
from kluis.formats.tpm.algorithm import HashId
from tests.evidence.tpm import forge
from tests.formats.eventlog.imas import extended, of_buffer, of_file, violation, written
from tests.formats.eventlog.logs import event, log
from tests.services.attestation.tpm.client import PERMIT, Client, world_of
from tests.services.attestation.vm import boot, sipa
from tests.services.attestation.world import World, b64u


def node(kind: int, *values: bytes) -> tuple[int, bytes]:
    """A container of events, or an event."""
    return kind, b"".join(values)


def raw(kind: int, value: bytes) -> bytes:
    """An event's bytes."""
    return kind.to_bytes(4, "little") + len(value).to_bytes(4, "little") + value


MODULE = raw(
    Sipa.LOADEDMODULE_AGGREGATION,
    raw(Sipa.FILEPATH, "\\Windows\\System32\\drivers\\WdBoot.sys\0".encode("utf-16-le"))
    + raw(Sipa.IMAGEVALIDATED, b"\1")
    + raw(Sipa.MODULE_SVN, (3).to_bytes(8, "little")),
)
BOUNDARY = node(
    Sipa.TRUSTBOUNDARY,
    raw(Sipa.BOOTDEBUGGING, b"\0"),
    raw(Sipa.CODEINTEGRITY, b"\1"),
    raw(Sipa.BITLOCKER_UNLOCK, (2).to_bytes(4, "little")),
    raw(Sipa.DATAEXECUTIONPREVENTION, (1).to_bytes(8, "little")),
    raw(Sipa.VBS_HVCI_POLICY, (1).to_bytes(8, "little")),
    raw(Sipa.APPLICATION_SVN, (7).to_bytes(8, "little")),
    raw(Sipa.SI_POLICY, b"policy"),
    raw(Sipa.BOOT_REVOCATION_LIST, b"list"),
    raw(0x00050077, b"new"),
    MODULE,
    MODULE,
)


@pytest.fixture
def tpms(storage: SealedStore) -> World:
    """A service with a policy for TPMs."""
    world = world_of(storage)
    issue(world, "")
    return world


def issue(world: World, rules: str) -> None:
    """Set a policy that permits, and issues something."""
    assert world.set_policy("Tpm", PERMIT.replace("ISSUE", rules)).status_code == 200


def asked(query: str, name: str = "out", claim: str = "events") -> str:
    """A rule that issues what a query finds in the events."""
    found = f'JsonToClaimValue(JmesPath(c.value, "{query}"))'
    return f'c:[type=="{claim}", issuer=="AttestationService"] => issue(type="{name}", value={found});'


TAGGED = "Events[? EventTypeString == 'EV_EVENT_TAG' && PcrIndex == `12`].ProcessedData"
QUERIES: dict[str, tuple[str, Any]] = {
    "a flag": (f"{TAGGED}.EVENT_TRUSTBOUNDARY | [*].EVENT_CODEINTEGRITY", True),
    "a flag that is off": (f"{TAGGED}.EVENT_TRUSTBOUNDARY | [*].EVENT_BOOTDEBUGGING", False),
    "a number": (
        f"{TAGGED}.EVENT_TRUSTBOUNDARY | [*].EVENT_BITLOCKER_UNLOCK | @[? Value != `0`].Value | @[0]", 2,
    ),
    "the last number": (
        f"{TAGGED}.EVENT_TRUSTBOUNDARY | [*].EVENT_DATAEXECUTIONPREVENTION.Value | @[-1]", 1,
    ),
    "a number with a name": (
        f"{TAGGED}.EVENT_TRUSTBOUNDARY | [*].EVENT_VBS_HVCI_POLICY | "
        "@[?String == 'HypervisorEnforcedCodeIntegrityEnable'].Value",
        1,
    ),
    "a bare number": (f"{TAGGED}.EVENT_TRUSTBOUNDARY.EVENT_APPLICATION_SVN | @[0]", 7),
    "modules": (
        f"{TAGGED}.EVENT_TRUSTBOUNDARY | [*].EVENT_LOADEDMODULE_AGGREGATION[] | "
        "[? EVENT_IMAGEVALIDATED == `true` && equals_ignore_case(EVENT_FILEPATH, "
        "'\\\\windows\\\\system32\\\\drivers\\\\wdboot.sys')] | length(@)",
        2,
    ),
    "a module's version": (
        f"{TAGGED}.EVENT_TRUSTBOUNDARY.EVENT_LOADEDMODULE_AGGREGATION[].EVENT_MODULE_SVN | @[0]", 3,
    ),
    "a list of bytes": (f"{TAGGED}.EVENT_TRUSTBOUNDARY.EVENT_SI_POLICY[].RawData", b64u(b"policy")),
    "bytes": (f"{TAGGED}.EVENT_TRUSTBOUNDARY.EVENT_BOOT_REVOCATION_LIST.RawData | @[0]", b64u(b"list")),
    "an event beside a boundary": (f"{TAGGED}.EVENT_DRTM_SMM | length(@) == `1` && @[0] | @.Value", 2),
    "an event that is not known": (f'{TAGGED}.EVENT_TRUSTBOUNDARY.\\"EVENT_0x00050077\\".RawData | @[0]',
                                   b64u(b"new")),
}  # fmt: skip


@pytest.mark.parametrize("name", QUERIES)
def test_windows_events(tpms: World, name: str) -> None:
    """Each shape is the one that Microsoft's policies compare."""
    query, want = QUERIES[name]
    issue(tpms, asked(query))
    smm = sipa((Sipa.DRTM_SMM, (2).to_bytes(4, "little")))
    client = Client(tpms, boot(b"\1", sipa(BOUNDARY), smm))
    assert client.report(client.v2())["out"] == want


def test_what_comes_twice(tpms: World) -> None:
    """A flag that a container has twice is a list: no query takes one of them for the other."""
    twice = node(Sipa.TRUSTBOUNDARY, raw(Sipa.TESTSIGNING, b"\0"), raw(Sipa.TESTSIGNING, b"\1"))
    issue(tpms, 'c:[type=="events"] => issue(type="out", value=c.value);')
    client = Client(tpms, boot(b"\1", sipa(twice)))
    events = json.loads(client.report(client.v2())["out"])["Events"]
    assert events[-1]["ProcessedData"]["EVENT_TRUSTBOUNDARY"] == {"EVENT_TESTSIGNING": [False, True]}


def test_an_event_that_somebody_else_hashed(tpms: World) -> None:
    """If the digest only covers a tag's value, the log keeper chose its first bytes: nothing is reported."""
    issue(tpms, 'c:[type=="events"] => issue(type="out", value=c.value);')
    kind, value = BOUNDARY
    other = event(12, EventType.EVENT_TAG, raw(kind, value), over=value, banks=(HashId.SHA256,))
    client = Client(tpms, boot(b"\1", other))
    told = json.loads(client.report(client.v2())["out"])["Events"][-1]
    assert told["PcrIndex"] == 12
    assert "EVENT_TRUSTBOUNDARY" not in (told.get("ProcessedData") or {})


def test_flags_after_the_start(tpms: World) -> None:
    """What a running system measures makes nothing better, and may make it worse."""
    rules = ('v:[type=="vbsEnabled"] => issue(type="vbs", value=v.value);'
             's:[type=="notSafeMode"] => issue(type="mode", value=s.value);')  # fmt: skip
    issue(tpms, rules)
    start = sipa((Sipa.SAFEMODE, b"\0"))
    end = separator()
    late = sipa((Sipa.VBS_VSM_REQUIRED, b"\1"), (Sipa.SAFEMODE, b"\1"))
    client = Client(tpms, boot(b"\1", start, end))
    assert client.report(client.v2())["mode"] is True
    client = Client(tpms, boot(b"\1", start, end, late))
    claims = client.report(client.v2())
    assert (claims["vbs"], claims["mode"]) == (False, False)


def separator() -> Any:
    """Windows' end of a register."""
    return event(12, 4, b"WBCL", banks=(HashId.SHA256,))


def certificate() -> bytes:
    """A key of a kernel's keyring."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Kernel module key")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    return made.public_bytes(Encoding.DER)


def linux(world: World, *records: Record, quoted: int | None = None) -> tuple[Client, dict[str, Any]]:
    """A machine that measured files, and its logs."""
    client = Client(world)
    client.vm.values[HashId.SHA256][10] = extended(HashId.SHA256, *records[:quoted])
    logs = [{"type": "TCG", "log": b64u(client.vm.log)}, {"type": "IMA", "log": b64u(written(*records))}]
    return client, {"logs": logs}


MEASURED = "Events[?EventTypeString == 'IMA_MEASUREMENT_EVENT']"


def test_linux(tpms: World) -> None:
    """Kernel version and trusted keys are found where Microsoft's policy looks for them."""
    records = (
        of_file("boot_aggregate", b"pcrs"),
        of_buffer("kernel_version", b"6.12.1"),
        of_buffer(".builtin_trusted_keys", certificate()),
        of_buffer(".other", certificate().replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x04")),
        of_buffer("selinux-state", b"enforcing=1"),
        violation("/var/log/x"),
        of_file("/usr/bin/late", b"after the quote"),
    )
    keys = (
        f"{MEASURED} | [? ProcessedData.Keyring == '.builtin_trusted_keys'].ProcessedData.CertificateSubject"
    )
    issue(tpms, asked(f"{MEASURED}.ProcessedData.KernelVersion", "kernel") + asked(keys, "keys")
          + 'c:[type=="events"] => issue(type="out", value=c.value);')  # fmt: skip
    client, tpm = linux(tpms, *records, quoted=6)
    claims = client.report(client.v2(tpm=tpm))
    assert (claims["kernel"], claims["keys"]) == ("6.12.1", "CN=Kernel module key")
    told = [e for e in json.loads(claims["out"])["Events"] if e["EventTypeString"] == "IMA_MEASUREMENT_EVENT"]
    assert [e["PcrIndex"] for e in told] == [10] * 6
    assert told[0]["ProcessedData"]["FileName"] == "boot_aggregate"
    assert told[0]["Digests"].keys() == {"SHA1", "SHA256"}
    assert [told[at]["ProcessedData"]["Name"] for at in (3, 4)] == [".other", "selinux-state"]
    assert "ProcessedData" not in told[5]


def test_a_trusted_key_of_an_unknown_version(tpms: World) -> None:
    """It has no subject, and its record stays: a machine's log may hold any bytes."""
    odd = certificate().replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x12", 1)
    subjects = f"{MEASURED}.ProcessedData.CertificateSubject"
    issue(tpms, asked(subjects, "keys") + 'c:[type=="events"] => issue(type="out", value=c.value);')
    client, tpm = linux(tpms, of_buffer(".builtin_trusted_keys", odd))
    claims = client.report(client.v2(tpm=tpm))
    assert "keys" not in claims
    (told,) = [
        e for e in json.loads(claims["out"])["Events"] if e["EventTypeString"] == "IMA_MEASUREMENT_EVENT"
    ]
    assert told["ProcessedData"]["RawData"]


def test_a_linux_log_that_does_not_replay(tpms: World) -> None:
    """A record that was left out, or changed, is refused."""
    records = (of_file("/a", b"1"), of_file("/b", b"2"))
    client, tpm = linux(tpms, *records)
    tpm["logs"][1]["log"] = b64u(written(records[1]))
    assert client.refused(client.v2(tpm=tpm))[1] == (
        "The specified TPM evidence was invalid: IMA log: want PCRs [10] as they were quoted, "
        "got others at each of 1 records"
    )


def test_the_boot_before(tpms: World) -> None:
    """A machine that resumed reports its boot as well: the same key, quoted earlier, of the same boot."""
    issue(tpms, asked("length(Events)", "boot", "bootEvents") + asked("length(Events)", "now"))
    client = Client(tpms)
    earlier = dataclasses.replace(forge.CLOCK, milliseconds=forge.CLOCK.milliseconds - 1)
    boot_said = client.attestation(b"", clock=earlier)
    claims = client.report(client.v2(att_data={"boot_attestation": boot_said}))
    assert claims["boot"] == claims["now"]
    assert "boot" not in client.report(client.v2())
    refused = "boot: want a quote of this boot, before the current one, got one of another boot or later"
    for clock in (
        dataclasses.replace(earlier, reset_count=forge.CLOCK.reset_count + 1),
        dataclasses.replace(earlier, milliseconds=forge.CLOCK.milliseconds + 1),
    ):
        other = client.attestation(b"", clock=clock)
        assert client.refused(client.v2(att_data={"boot_attestation": other}))[1].endswith(refused)
    stranger = boot_said | {"aik_pub": {**boot_said["aik_pub"], "e": "Aw"}}
    assert client.refused(client.v2(att_data={"boot_attestation": stranger}))[1].endswith(
        "boot: want the same attestation key, got another"
    )
    forged = boot_said | {"quote": client.attestation(b"x", clock=earlier)["quote"]}
    assert client.refused(client.v2(att_data={"boot_attestation": forged}))[0] == "InvalidParameter"


def test_the_boot_before_in_version_1(tpms: World) -> None:
    """Version 1 has a claim of the boot, and logs of both times."""
    issue(tpms, asked("length(Events)", "boot", "bootEvents") + asked("length(Events)", "now"))
    client = Client(tpms)
    text = b64u(client.vm.log)
    earlier = dataclasses.replace(forge.CLOCK, milliseconds=0)
    claim = b64u(client.claim(b"", earlier))
    claims = client.report(client.v1(boot_claim=claim, srtm_boot_log=text, srtm_resume_log=text))
    assert claims["boot"] == claims["now"]
    assert "boot" not in client.report(client.v1(srtm_boot_log=text))
    short = b64u(short_log())
    assert "event log: want PCRs as they were quoted" in client.refused(client.v1(srtm_resume_log=short))[1]
    assert (
        "event log: want PCRs as they were quoted"
        in client.refused(client.v1(boot_claim=claim, srtm_boot_log=short, srtm_resume_log=text))[1]
    )


def short_log() -> bytes:
    """A log of one separator."""
    return log(event(0, 4, bytes(4), banks=(HashId.SHA256,)), banks=(HashId.SHA256,)).encode()
