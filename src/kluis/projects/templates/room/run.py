"""Play both owners on this machine: they join, seal their data, sign, run, and read the answer.

python project_name/run.py project_name.kluis

Elsewhere each owner types their own commands, which this program prints.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import make_data

FOLDER = Path(__file__).parent
KLUIS = Path(sys.executable).with_name("kluis")


def kluis(*words: object) -> str:
    """Run one command, and print it and its output."""
    line = [str(word) for word in words]
    print(f"$ kluis {shlex.join(line)}", flush=True)
    done = subprocess.run([KLUIS, *line], stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, flush=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def main(image: str) -> None:
    """The room and the owners' keys are in a new folder each time, and are deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="project_name-") as work:
        make_data.main(Path(work))
        room, home = Path(work) / "room", ["--home", Path(work) / "parties"]
        clinic, lab = ["--as", "clinic"], ["--as", "lab"]
        about = ["--title", "Age and values", "--purpose", "A first room"]
        kluis("room", "init", room, *clinic, "--role", "owner", "--role", "recipient", *about, *home)
        kluis("room", "init", room, *lab, "--role", "owner", *home)
        for owner, name in ((clinic, "people"), (lab, "labs")):
            terms = ["--dataset", name, "--terms", FOLDER / f"{name}.toml"]
            kluis("room", "seal", room, Path(work) / f"{name}.parquet", *owner, *terms, *home)
        # By telephone, in a real room: the folder could have other keys than the party's.
        of_clinic = kluis("room", "fingerprint", *clinic, *home).strip()
        of_lab = kluis("room", "fingerprint", *lab, *home).strip()
        plan = ["--plan", FOLDER / "plan.toml", "--image", image]
        kluis("room", "propose", room, *clinic, *plan, *home, "--confirm", f"lab={of_lab}")
        kluis("room", "approve", room, *lab, "--yes", *home, "--confirm", f"clinic={of_clinic}")
        kluis("room", "run", room, *clinic, *lab, "--image", image, *home)
        kluis("room", "open", room, *clinic, *home)
        kluis("room", "receipt", room, *lab, *home)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} project_name.kluis")
    main(sys.argv[1])
