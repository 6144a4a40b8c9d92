"""Forge one piece of evidence of every kind, and verify such a folder on any system.

python scripts/forged.py write FOLDER     forge them, on Linux, with the tests' forgers
python scripts/forged.py verify FOLDER    verify them, with Kluis as it is installed, and nothing else

Each piece is an evidence file ``KIND.evidence``; ``anchors.json`` has the keys that sign them, and the time.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def write(folder: Path) -> int:
    """Forge every kind.

    Returns:
        0.
    """
    sys.path.insert(0, str(ROOT))
    from kluis.evidence import EvidenceFile
    from tests.evidence import samples

    folder.mkdir(parents=True, exist_ok=True)
    about = {}
    for kind in samples.REGISTERED:
        sample = samples.sample(kind)
        collateral = None if sample.collateral is None else sample.collateral.to_json()
        file = EvidenceFile(evidence=sample.data, collateral=collateral)
        (folder / f"{kind}.evidence").write_bytes(file.encode())
        about[kind] = {
            "now": sample.now.isoformat(),
            "anchors": [
                {
                    "name": one.name,
                    "vendor": one.vendor,
                    "spki": one.spki.hex(),
                    "level": one.level,
                    "product": one.product,
                }
                for one in sample.anchors
            ],
        }
    (folder / "anchors.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
    print(f"{len(about)} kinds of evidence are in {folder}")
    return 0


def verify(folder: Path) -> int:
    """Verify every kind, and refuse each with a changed byte and under the vendors' roots.

    Returns:
        0 if all are as expected, else 1.
    """
    from kluis import evidence
    from kluis.errors import KluisError
    from kluis.evidence import Anchor, EvidenceFile, ProtectionLevel, TrustAnchors, collateral_of

    about = json.loads((folder / "anchors.json").read_text(encoding="utf-8"))
    wrong = 0
    for kind, told in sorted(about.items()):
        keys = [
            {**one, "spki": bytes.fromhex(one["spki"]), "level": ProtectionLevel(one["level"])}
            for one in told["anchors"]
        ]
        anchors = TrustAnchors(tuple(Anchor(**one) for one in keys))
        now = datetime.fromisoformat(told["now"])
        data = (folder / f"{kind}.evidence").read_bytes()
        file = EvidenceFile.parse(data)
        given = {"collateral": collateral_of(file), "now": now}
        said = []
        try:
            claims = evidence.verify(data, anchors=anchors, **given).value
            said.append(f"verified, level {claims.level}")
        except KluisError as error:
            said.append(f"WRONG: {error.code}: {error.message}")
        changed = bytearray(file.evidence)
        changed[len(changed) // 2] ^= 1
        for what, bad, trusted in (
            ("a changed byte", dataclasses.replace(file, evidence=bytes(changed)), anchors),
            ("other roots", file, TrustAnchors.shipped()),
        ):
            try:
                evidence.verify(bad.encode(), anchors=trusted, **given)
                said.append(f"WRONG: {what} is accepted")
            except KluisError as error:
                said.append(f"{what}: {error.code}")
        wrong += any(each.startswith("WRONG") for each in said)
        print(f"{kind}: {'; '.join(said)}")
    print(f"{len(about) - wrong} of {len(about)} kinds as expected")
    return 1 if wrong or not about else 0


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("write", "verify"):
        sys.exit("usage: forged.py write|verify FOLDER")
    sys.exit((write if sys.argv[1] == "write" else verify)(Path(sys.argv[2])))
