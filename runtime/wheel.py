"""Write a wheel with the runtime's interpreter: its zlib is pinned, so the bytes are reproducible.

Usage: wheel.py ROOT OUT. Adds every file in ROOT, sorted by name, and RECORD.

Spec: PyPA, "Binary distribution format" (wheel 1.0).
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import zipfile

MOMENT = (2000, 1, 1, 0, 0, 0)


def main(root: str, out: str) -> None:
    """Write the wheel."""
    paths = sorted(
        os.path.relpath(os.path.join(folder, name), root)
        for folder, _, names in os.walk(root)
        for name in names
    )
    info = next(path.partition("/")[0] for path in paths if path.endswith(".dist-info/WHEEL"))
    rows = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as wheel:
        for path in paths:
            at = os.path.join(root, path)
            with open(at, "rb") as f:
                data = f.read()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.append(f"{path},sha256={digest},{len(data)}\n")
            add(wheel, path, data, 0o755 if os.access(at, os.X_OK) else 0o644)
        rows.append(f"{info}/RECORD,,\n")
        add(wheel, f"{info}/RECORD", "".join(rows).encode(), 0o644)


def add(wheel: zipfile.ZipFile, path: str, data: bytes, mode: int) -> None:
    """Add one file without the current time, user and system."""
    entry = zipfile.ZipInfo(path, MOMENT)
    entry.create_system = 3
    entry.external_attr = (0o100000 | mode) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    wheel.writestr(entry, data)


if __name__ == "__main__":
    main(*sys.argv[1:])
