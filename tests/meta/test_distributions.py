"""One source has one image id on Debian 12 and on Debian 13, and each runs the other's image."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.meta import installed
from tests.meta.test_installed import APP

# bubblewrap pivots away from the root, which must be a mount point for that.
ENTER = """
set -e
mount --bind "$0" "$0"; cd "$0"
mount -t proc proc proc; mount --rbind /dev dev; mount -t tmpfs run run; mount --bind "$1" srv
exec chroot . /usr/bin/env -i PATH=/opt/kluis/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root sh -ec "$2"
"""
COMMANDS = """
cd /srv
kluis build cohort -o there.kluis --key /root/author.pem
kluis run there.kluis mean_age '[61, 58, 70, 66, 49]'
kluis run here.kluis mean_age '[61, 58, 70, 66, 49]'
kluis platform stop
"""


def _root(folder: Path) -> Path:
    """A Debian 12 with its own Python 3.11 and glibc, no compiler, and Kluis from its wheels."""
    made = folder / "bookworm"
    packages = "python3,python3-venv,bubblewrap,util-linux"
    line = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(made)]
    subprocess.run(line, check=True, capture_output=True)
    subprocess.run(["chroot", str(made), "python3", "-m", "venv", "--without-pip", "/opt/kluis"], check=True)
    place = made / "opt/kluis/lib/python3.11/site-packages"
    # pip runs here and installs there: the root has no network settings.
    python = installed.interpreter("3.11")
    assert python is not None
    programs = installed.environment(folder, python, "kluis[enclave]")
    shutil.copytree(programs.parent / "lib/python3.11/site-packages", place, dirs_exist_ok=True)
    command = made / "opt/kluis/bin/kluis"
    command.write_text("#!/opt/kluis/bin/python\nfrom kluis.cli.main import main\nraise SystemExit(main())\n")
    command.chmod(0o755)
    return made


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="debootstrap wants root")
def test_one_id_on_two_distributions() -> None:
    """Another libc, another Python patch release and no compiler: the same image, which runs on both."""
    if shutil.which("debootstrap") is None:
        pytest.skip("debootstrap is not here: apt-get install debootstrap")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("Debian 12 has Python 3.11, and this is another")
    with tempfile.TemporaryDirectory(prefix="kluis-distributions-") as path:
        folder = Path(path)
        folder.chmod(0o755)
        shared = folder / "shared"
        (shared / "cohort").mkdir(parents=True)
        (shared / "cohort/app.py").write_text(APP)
        made = _root(folder)
        here = folder / "venv/bin/kluis"
        clean = installed.clean(folder)
        build = [str(here), "build", "cohort", "-o", "here.kluis", "--key", str(folder / "k.pem")]
        subprocess.run(build, cwd=shared, env=clean, check=True, capture_output=True)
        entered = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "bash", "-c", ENTER, made, shared, COMMANDS],
            capture_output=True,
            text=True,
            check=False,
        )
        assert entered.returncode == 0, entered.stdout + entered.stderr
        assert entered.stdout.count("60.8") == 2
        found = {_image_id(here, shared / name, clean) for name in ("here.kluis", "there.kluis")}
        assert len(found) == 1
        try:
            call = [str(here), "run", "there.kluis", "mean_age", "[61, 58, 70, 66, 49]"]
            said = subprocess.run(call, cwd=shared, env=clean, check=True, capture_output=True, text=True)
        finally:
            subprocess.run([str(here), "platform", "stop"], env=clean, check=True, capture_output=True)
        assert said.stdout.strip() == "60.8"


def _image_id(kluis: Path, image: Path, environment: dict[str, str]) -> str:
    said = subprocess.run(
        [str(kluis), "measure", str(image)], env=environment, check=True, capture_output=True, text=True
    ).stdout
    return next(line.split()[1] for line in said.splitlines() if line.startswith("image_id"))
