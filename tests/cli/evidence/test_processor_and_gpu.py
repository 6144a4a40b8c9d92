"""One policy for a processor and a GPU, under which recorded evidence of both is judged."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kluis.cli.evidence import files
from kluis.formats.ietf.cmw import OCTETS, Collection, Part
from kluis.formats.kluis.devices import Devices, NamedReport
from tests.cli.quotes import Kluis
from tests.cli.test_evidence_kinds import VECTORS, Case

CPU = VECTORS / "tdx" / "attestation-rs-140cbd8c-202601-tcbv3-UpToDate" / "meta.json"
OTHER_CPU = VECTORS / "tdx" / "attested-tls-d0ee491c-202503-tcbv3-UpToDate" / "meta.json"
GPU = VECTORS / "nvidia" / "sdk-hopper" / "meta.json"
OTHER_GPU = VECTORS / "nvidia" / "sdk-blackwell" / "meta.json"

pytestmark = pytest.mark.skipif(
    not all(path.exists() for path in (CPU, OTHER_CPU, GPU, OTHER_GPU)), reason=f"no vectors in {VECTORS}"
)


def draft(kluis: Kluis, case: Case, folder: Path) -> str:
    """The policy that a piece of evidence meets."""
    path = folder / f"{case.name}.toml"
    said = kluis("policy", "init", *case.words(folder), "-o", path)
    assert said.code == 0, said.err
    return path.read_text()


def shared(kluis: Kluis, folder: Path) -> Path:
    """One policy from both drafts. What only a processor has is not required: the keys are for all tables."""
    cpu, gpu = (draft(kluis, Case(path), folder) for path in (CPU, GPU))
    table = gpu[gpu.index("[nvidia]") : gpu.index("[binding]")]
    text = cpu.replace('["hardware-tdx"]', '["hardware-tdx", "hardware-gpu"]')
    text = text.replace('["UpToDate"]', '["UpToDate", "NotJudged"]')
    for key in ("max_collateral_age_days", "min_evaluation", "min_tcb_date", "report_data"):
        text, count = re.subn(rf"^{key} = \S+", f'{key} = "any"', text, flags=re.MULTILINE)
        assert count == 1, key
    path = folder / "both.toml"
    path.write_text(text.replace("[binding]", f"{table}\n[binding]"))
    return path


def test_one_policy_judges_both(kluis: Kluis, tmp_path: Path) -> None:
    """The recorded processor and the recorded GPU meet it; another of either does not, and shows the rule."""
    policy = shared(kluis, tmp_path)
    for path, level in ((CPU, "hardware-tdx"), (GPU, "hardware-gpu")):
        said = kluis("appraise", *Case(path).words(tmp_path), "--policy", policy)
        assert said.code == 0, said.out
        assert f"protection {level}" in said.out
    for path, rule in ((OTHER_CPU, "measurement"), (OTHER_GPU, "product")):
        said = kluis("appraise", *Case(path).words(tmp_path), "--policy", policy, "--json")
        failed = [one["name"] for one in json.loads(said.out)["rules"] if not one["ok"]]
        assert (said.code, rule in failed) == (6, True), said.out


def test_the_recorded_devices_are_not_bound(kluis: Kluis, tmp_path: Path) -> None:
    """One verdict for both: each meets its table, and the processor's evidence does not name the GPU."""
    policy, case = shared(kluis, tmp_path), Case(GPU)
    device, runtime = tmp_path / "gpu.json", tmp_path / "runtime.json"
    parts = {name: Part(OCTETS, _part(case, name)) for name in ("report", "cert_chain")}
    device.write_bytes(Collection(parts).encode())
    runtime.write_bytes(Devices((NamedReport(bytes(32), bytes(32)),)).runtime_data(b"\1" * 16))
    words = ["--policy", policy, "--device", device, "--runtime", runtime, "--nonce", "01" * 16, "--json"]
    said = kluis("appraise", *Case(CPU).words(tmp_path), *words)
    rules = {one["name"]: one for one in json.loads(said.out)["rules"]}
    assert said.code == 6, said.out
    assert [name for name, rule in rules.items() if not rule["ok"]] == ["devices", "device1_bound"]
    assert rules["device1_bound"]["got"] == "a document that the evidence does not prove"
    said = kluis("appraise", *case.words(tmp_path), "--policy", policy)
    assert (said.code, "nothing binds it to the processor of a machine" in said.out) == (0, True)


def _part(case: Case, name: str) -> bytes:
    data = case.file(name).read_bytes()
    return data if data.startswith(b"-----BEGIN ") else files.decode_armor(data, name)


def test_a_policy_for_the_processor_accepts_no_gpu(kluis: Kluis, tmp_path: Path) -> None:
    """Without a table for GPUs, a GPU's evidence is refused: nothing is accepted that no table names."""
    draft(kluis, Case(CPU), tmp_path)
    policy = tmp_path / f"{Case(CPU).name}.toml"
    assert kluis("appraise", *Case(GPU).words(tmp_path), "--policy", policy).code == 6
