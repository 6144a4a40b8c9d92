"""The build hook: compiles the C parts of the process TEE beside the Python ones."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
BUILDER = ROOT / "src" / "kluis" / "tee" / "process" / "native.py"
BIN = Path("kluis") / "tee" / "process" / "bin"


class BuildWithNative(build_py):
    """Copies the Python modules, then compiles launcher and guardian into the package.

    A machine without a compiler still gets the verifier: the lack is said here, and again, with the line that
    mends it, by whatever needs the missing program.
    """

    def run(self) -> None:
        """Build the package; compile the C parts if this is Linux on x86-64."""
        super().run()
        if not BUILDER.exists() or sys.platform != "linux":
            return
        dest = (ROOT / "src" if self.editable_mode else Path(self.build_lib)) / BIN
        dest.mkdir(parents=True, exist_ok=True)
        sys.path.insert(0, str(ROOT / "src"))
        try:
            spec = importlib.util.spec_from_file_location("kluis_native_build", BUILDER)
            assert spec is not None  # noqa: S101 - the file exists
            assert spec.loader is not None  # noqa: S101
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            module.build(dest)
        except Exception as error:  # noqa: BLE001 - whatever a compiler says, verification must still install
            print(f"kluis: warning: the process TEE was not built: {error}", file=sys.stderr)
            hint = getattr(error, "hint", None) or "apt-get install gcc libc6-dev, or pip install ziglang"
            print(f"kluis: hint: {hint}", file=sys.stderr)
        finally:
            sys.path.remove(str(ROOT / "src"))


# Where there is no compiler, one comes from PyPI into the build's own environment, and goes with it.
COMPILER = [] if shutil.which("gcc") or shutil.which("cc") else ["ziglang"]

setup(cmdclass={"build_py": BuildWithNative}, setup_requires=COMPILER)
