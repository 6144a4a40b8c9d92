"""The console's verdicts: authentic evidence, each rule with its reason, and roots that nobody chose."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kluis import trust
from kluis.appraisal import draft, dumps
from kluis.evidence import EvidenceFile, ProtectionLevel, TrustAnchors, verify
from kluis.formats.kluis.runtime_data import Purpose
from kluis.formats.sgx.collateral import Collateral
from tests.cleanroom import samples
from tests.cleanroom.platform import Attester, Platform
from tests.console.site import Site

EMPTY = b"(empty)"
NONCE = b"\x5a" * 16


class Evidence:
    """An enclave's evidence on an emulated platform, with a policy for it."""

    def __init__(self) -> None:
        self.platform = Platform(samples.NOW)
        self.root = self.platform.root().encode()
        bundle = Attester(self.platform).quote(Purpose.CLI, NONCE, b"")
        self.quote, self.runtime, self.launch = (
            bundle.quote,
            bundle.runtime_data,
            bundle.launch_configuration,
        )
        self.collateral = self.platform.collateral()
        self.file = EvidenceFile(
            evidence=self.quote,
            runtime_data=self.runtime,
            launch_configuration=self.launch,
            collateral=self.collateral,
        ).encode()
        proven = verify(
            self.quote,
            anchors=TrustAnchors.from_pem(self.root),
            collateral=Collateral.from_json(self.collateral),
            now=samples.NOW,
        )
        self.policy = dumps(
            draft.draft(proven, runtime_data=self.runtime, launch_configuration=self.launch)
        ).encode()


@pytest.fixture(scope="module")
def given() -> Evidence:
    return Evidence()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(parties=tmp_path).open()


def test_authentic_and_not_appraised(given: Evidence, site: Site) -> None:
    """Without a policy, the page states what was proven, what the level is worth, and the evidence's age."""
    files = {"evidence": given.quote, "collateral": given.collateral, "root": given.root}
    page = site.post("/evidence", files=files)
    assert page.status_code == 200, page.text
    assert "Authentic, and not appraised: SGX quote v3" in page.text
    assert "Protection level process;" in page.text
    assert "Not kept out" in page.text
    assert re.search(r"<dt>Collateral issued</dt><dd>(less than a second|\d+ \w+) ago</dd>", page.text)
    assert "11" * 32 in page.text


def test_each_rule_with_its_reason(given: Evidence, site: Site) -> None:
    """With a policy, each rule has what was wanted and found; a failed rule comes first."""
    files = {"evidence": given.file, "root": given.root, "policy": given.policy}
    page = site.post("/evidence", {"nonce": NONCE.hex()}, files)
    assert page.status_code == 200, page.text
    assert "Affirming: SGX quote v3" in page.text
    assert "✗ FAILS" not in page.text
    stale = site.post("/evidence", {"nonce": "00" * 16}, files)
    assert "Contraindicated: SGX quote v3" in stale.text
    rows = re.findall(r'<td class="state">(.*?)</td><td><code>(.*?)</code>', stale.text)
    assert rows[0] == ("✗ FAILS", "nonce")
    assert {state for state, _ in rows[1:]} == {"✓ met"}
    assert "Fix: " in stale.text


def test_an_evidence_file_needs_only_a_root(given: Evidence, site: Site) -> None:
    """Runtime data, launch configuration and collateral come from the evidence file."""
    page = site.post("/evidence", files={"evidence": given.file, "root": given.root})
    assert (page.status_code, "Authentic, and not appraised" in page.text) == (200, True)


def test_no_root_is_trusted_unasked(given: Evidence, site: Site) -> None:
    """Emulated evidence is refused unless the user gives its root, or the trust store has it."""
    refused = site.post("/evidence", files={"evidence": given.file})
    assert (refused.status_code, "root_untrusted" in refused.text) == (403, True)
    trust.add(trust.folder(), "lab", given.root, ProtectionLevel.PROCESS)
    try:
        assert site.post("/evidence", files={"evidence": given.file}).status_code == 200
    finally:
        trust.remove(trust.folder(), "lab")


def test_this_machines_root_needs_a_platform(
    given: Evidence, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The box for this machine's platform starts none: without one it is an error that names the command."""
    monkeypatch.setenv("KLUIS_HOME", str(tmp_path / "none"))
    page = site.post("/evidence", {"here": "yes"}, {"evidence": given.file})
    assert (page.status_code, "kluis platform start" in page.text) == (503, True)


@pytest.mark.parametrize(
    ("fields", "files", "words"),
    [
        ({}, {}, "evidence: want a file, got none"),
        ({}, {"evidence": EMPTY}, "evidence: is empty"),
        ({"nonce": "xyz"}, {"policy": None}, "nonce: want hex digits"),
        ({"nonce": "5a"}, {"evidence": None}, "nonce: want a policy with a rule for it"),
        ({"report_data": "5a"}, {"policy": None}, "report_data: want a policy with a rule for it"),
        ({}, {"policy": b"x"}, "policy"),
        ({}, {"root": b"x"}, "PEM"),
        ({}, {"collateral": b"x"}, "collateral: is base64 that is broken"),
    ],
)
def test_bad_input(
    given: Evidence, site: Site, fields: dict[str, str], files: dict[str, bytes | None], words: str
) -> None:
    """Each mistake is an error that names the field."""
    right = {"evidence": given.quote, "collateral": given.collateral, "root": given.root}
    known = {"evidence": given.quote, "policy": given.policy}
    sent = {**right, **{name: data or known[name] for name, data in files.items()}} if files else {}
    page = site.post(
        "/evidence", fields, {name: b"" if data == EMPTY else data for name, data in sent.items()}
    )
    assert (400 <= page.status_code < 500, words in page.text) == (True, True), page.text
