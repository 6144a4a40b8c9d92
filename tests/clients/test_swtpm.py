"""A real TPM 2.0, in software: its own quotes verify, and whatever changes after them is refused."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key

from kluis.errors import AuthenticityError, FormatError, FreshnessError, KluisError
from kluis.evidence import Claims, ProtectionLevel, TpmClaims, TpmEndorsements, TrustAnchors, verify
from kluis.evidence.context import Context
from kluis.evidence.tpm import quote as checks
from kluis.evidence.tpm.key import area_of
from kluis.formats.eventlog.event_type import EventType
from kluis.formats.eventlog.log import Event, EventLog
from kluis.formats.tpm import attest, pcrs, signature
from kluis.formats.tpm.algorithm import HashId
from kluis.formats.tpm.public import Attribute, Public
from tests.evidence.tpm.forge import NOW, Maker, collection, quote
from tests.formats.eventlog.logs import event, log

TOOLS = ("swtpm", "tpm2")
LACKING = [tool for tool in TOOLS if shutil.which(tool) is None]
PCRS = "sha256:0,1,2,3,4,5,6,7,9,16"

pytestmark = pytest.mark.skipif(
    bool(LACKING), reason=f"not installed: {LACKING}; apt-get install swtpm tpm2-tools"
)


class SoftwareTpm:
    """A TPM that runs until the test ends, spoken to with the tools that everybody uses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        state = folder / "state"
        state.mkdir()
        argv = [
            "swtpm",
            "socket",
            "--tpm2",
            "--tpmstate",
            f"dir={state}",
            "--flags",
            "not-need-init,startup-clear",
        ]
        argv += ["--server", f"type=unixio,path={folder}/s", "--ctrl", f"type=unixio,path={folder}/s.ctrl"]
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while not (folder / "s.ctrl").exists() and time.monotonic() < end:
            time.sleep(0.02)
        self.run("createek", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def run(self, *argv: str) -> None:
        """One command, with the TPM's few slots emptied first."""
        for kind in ("-t", "-l", "-s"):
            self.tool("flushcontext", kind)
        done = self.tool(*argv)
        assert done.returncode == 0, done.stderr

    def tool(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run one command on the TPM's state."""
        environ = {**os.environ, "TPM2TOOLS_TCTI": f"swtpm:path={self.folder}/s"}
        return subprocess.run(
            ["tpm2", *argv], cwd=self.folder, env=environ, capture_output=True, text=True, timeout=300
        )

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def make_ak(self, algorithm: str, scheme: str) -> Public:
        """A new attestation key, under the endorsement key."""
        self.run("createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", algorithm, "-g", "sha256", "-s", scheme,
                 "-u", "ak.pub", "-n", "ak.name")  # fmt: skip
        return area_of(self.read("ak.pub"))

    def extend(self, *events: Event) -> None:
        """Extend PCRs by the digests of events."""
        for each in events:
            digest = each.digest(HashId.SHA256)
            assert digest is not None
            self.run("pcrextend", f"{each.index}:sha256={digest.hex()}")

    def quote(self, nonce: bytes, scheme: str) -> dict[str, bytes]:
        """A quote of the PCRs as they are."""
        self.run("quote", "-c", "ak.ctx", "-l", PCRS, "-q", nonce.hex(), "-g", "sha256", "--scheme", scheme,
                 "-m", "msg", "-s", "sig", "-o", "pcrs")  # fmt: skip
        return {"tpm_quote": self.read("msg"), "tpm_signature": self.read("sig"), "pcrs": self.read("pcrs")}


@pytest.fixture(scope="module")
def tpm() -> Iterator[SoftwareTpm]:
    """One TPM for all tests; each test finds PCRs as the one before left them."""
    # The path of a socket must be short.
    with tempfile.TemporaryDirectory(prefix="tpm-") as folder:
        made = SoftwareTpm(Path(folder))
        yield made
        made.stop()


@pytest.fixture(scope="module")
def maker() -> Maker:
    return Maker()


def _anchors(area: Public) -> TrustAnchors:
    body = base64.encodebytes(area.spki)
    pem = b"-----BEGIN PUBLIC KEY-----\n" + body + b"-----END PUBLIC KEY-----\n"
    return TrustAnchors.from_pem(pem, ProtectionLevel.VTPM)


def _verify(parts: dict[str, bytes], area: Public, collateral: TpmEndorsements | None = None) -> Claims:
    data = collection({**parts, "tpm_public": area.encode()})
    return verify(data, anchors=_anchors(area), collateral=collateral, now=datetime.now(UTC)).value


BOOT = (
    event(4, EventType.EFI_ACTION, b"Calling EFI Application from Boot Option", banks=(HashId.SHA256,)),
    *(event(index, EventType.SEPARATOR, bytes(4), banks=(HashId.SHA256,)) for index in range(8)),
    event(9, EventType.IPL, b"grub_cmd: boot\0", over=b"boot", banks=(HashId.SHA256,)),
)


@pytest.mark.parametrize(("algorithm", "scheme"), [("rsa", "rsassa"), ("rsa", "rsapss"), ("ecc", "ecdsa")])
def test_quotes(tpm: SoftwareTpm, maker: Maker, algorithm: str, scheme: str) -> None:
    """A quote verifies under the named key and under a certificate, with the TPM's values as claims."""
    area = tpm.make_ak(algorithm, scheme)
    assert area.name == tpm.read("ak.name")
    parts = tpm.quote(b"a nonce of ours", scheme)
    claims = _verify(parts, area)
    assert (claims.level, claims.nonce) == (ProtectionLevel.VTPM, b"a nonce of ours")
    assert claims.registers["pcr16"].value == pcrs.parse(parts["pcrs"])[HashId.SHA256][16]
    vendor = claims.vendor
    assert isinstance(vendor, TpmClaims)
    assert vendor.key_name == area.name
    assert Attribute.RESTRICTED & (vendor.key_attributes or 0)
    leaf = maker.ak(load_der_public_key(area.spki))
    data = collection({**parts, "tpm_public": tpm.read("ak.pub")})
    certified = verify(data, anchors=maker.anchors, collateral=maker.endorse(leaf), now=NOW).value
    assert certified.registers == claims.registers


def test_what_comes_after_a_quote(tpm: SoftwareTpm) -> None:
    """After another extend the old quote does not fit the new values, nor the new quote the old ones."""
    area = tpm.make_ak("ecc", "ecdsa")
    before = tpm.quote(b"1", "ecdsa")
    tpm.extend(event(16, EventType.ACTION, b"something new"))
    after = tpm.quote(b"2", "ecdsa")
    assert before["pcrs"] != after["pcrs"]
    for parts in ({**before, "pcrs": after["pcrs"]}, {**after, "pcrs": before["pcrs"]}):
        with pytest.raises(AuthenticityError) as caught:
            _verify(parts, area)
        assert caught.value.code == "pcr_digest"
    with pytest.raises(AuthenticityError) as mixed:
        _verify({**before, "tpm_quote": after["tpm_quote"]}, area)
    assert mixed.value.code == "sig_tpm"


def test_another_nonce(tpm: SoftwareTpm) -> None:
    """A quote for another nonce is visible in its claims, and refused if the nonce is given."""
    area = tpm.make_ak("rsa", "rsassa")
    parts = tpm.quote(b"theirs", "rsassa")
    assert _verify(parts, area).nonce == b"theirs"
    context, values = Context(_anchors(area)), pcrs.parse(parts["pcrs"])
    signed = signature.parse(parts["tpm_signature"])
    checks.check(parts["tpm_quote"], signed, values, area.spki, context=context, nonce=b"theirs")
    with pytest.raises(FreshnessError) as caught:
        checks.check(parts["tpm_quote"], signed, values, area.spki, context=context, nonce=b"ours")
    assert caught.value.code == "nonce"


def test_other_attestations(tpm: SoftwareTpm) -> None:
    """The TPM signs its time with the same key, and that is no quote."""
    area = tpm.make_ak("rsa", "rsassa")
    parts = tpm.quote(b"n", "rsassa")
    tpm.run("gettime", "-c", "ak.ctx", "-q", "00", "-o", "time.sig", "--attestation", "time.msg")
    with pytest.raises(FormatError) as caught:
        _verify({**parts, "tpm_quote": tpm.read("time.msg"), "tpm_signature": tpm.read("time.sig")}, area)
    assert caught.value.code == "bad_type"


def test_an_unrestricted_key_signs_a_forged_quote(tpm: SoftwareTpm) -> None:
    """A TPM signs whatever it is handed with an ordinary key: only the key's attributes give it away."""
    tpm.run("createprimary", "-C", "o", "-c", "primary.ctx")
    tpm.run("create", "-C", "primary.ctx", "-G", "ecc:ecdsa-sha256", "-u", "key.pub", "-r", "key.priv",
            "-a", "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign")  # fmt: skip
    tpm.run("load", "-C", "primary.ctx", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx")
    area = area_of(tpm.read("key.pub"))
    forged = {HashId.SHA256: dict.fromkeys(range(8), b"B" * 32)}
    message = quote(forged, (attest.Selection.of(HashId.SHA256, *range(8)),)).encode()
    (tpm.folder / "forged").write_bytes(message)
    tpm.run("sign", "-c", "key.ctx", "-g", "sha256", "-s", "ecdsa", "-o", "forged.sig", "forged")
    parts = {"tpm_quote": message, "tpm_signature": tpm.read("forged.sig"), "pcrs": pcrs.dumps(forged)}
    with pytest.raises(AuthenticityError, match="without RESTRICTED") as caught:
        _verify(parts, area)
    assert caught.value.code == "ak_binding"
    # Without its area this cannot be checked: the party that names or certifies a key must have looked.
    assert (
        verify(collection(parts), anchors=_anchors(area), collateral=None, now=datetime.now(UTC))
        .value.registers["pcr0"]
        .value
        == b"\x42" * 32
    )


def test_event_log(tpm: SoftwareTpm) -> None:
    """A log replays to what the TPM quotes, and no longer once the TPM is extended behind its back."""
    area = tpm.make_ak("rsa", "rsassa")
    made = log(*BOOT, banks=(HashId.SHA256,))
    tpm.extend(*BOOT)
    parts = {**tpm.quote(b"n", "rsassa"), "event_log": made.encode()}
    vendor = _verify(parts, area).vendor
    assert isinstance(vendor, TpmClaims)
    assert vendor.log is not None
    assert vendor.log.reproduced == frozenset((*range(8), 9))
    shorter = EventLog(made.algorithms, True, made.events[:-1], b"")
    # Register 9 is an operating system's: a log may have no entries for it, and then that is reported.
    silent = _verify({**parts, "event_log": shorter.encode()}, area).vendor
    assert isinstance(silent, TpmClaims)
    assert silent.log is not None
    assert silent.log.unexplained >= {9}
    tpm.extend(event(4, EventType.EFI_ACTION, b"behind its back"))
    with pytest.raises(KluisError) as caught:
        _verify({**tpm.quote(b"n", "rsassa"), "event_log": made.encode()}, area)
    assert caught.value.code == "event_log"
