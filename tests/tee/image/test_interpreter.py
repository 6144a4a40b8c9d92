"""The python layer: the standard library of the running interpreter, and what it cannot run without."""

from __future__ import annotations

import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from kluis.errors import UnavailableError
from kluis.tee.image import interpreter, sources
from tests.tee.image import samples

LIBRARY = {file.path: file for file in interpreter.standard_library()}
OBJECTS = {p: file.origin for p, file in LIBRARY.items() if isinstance(file.origin, Path) and ".so" in p}


def test_what_is_there() -> None:
    """The library, its packages and its extension modules are there."""
    home = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
    for path in ("os.py", "encodings/utf_8.py", "asyncio/tasks.py", "json/__init__.py", "unittest/mock.py"):
        assert f"{home}/{path}" in LIBRARY
    assert any(path.startswith(f"{home}/lib-dynload/_ssl.") for path in LIBRARY)


@pytest.mark.parametrize(
    "part",
    [
        "/test/",
        "/tests/",
        "idlelib",
        "tkinter",
        "ensurepip",
        "/config-",
        "site-packages",
        "dist-packages",
        "__pycache__",
        "sitecustomize",
        ".pth",
        ".pyc",
        "_testcapi",
        "_tkinter",
        "lib-dynload/readline.",
    ],
)
def test_what_is_left_out(part: str) -> None:
    """Tests, screens, installers, hooks and what others installed are not."""
    assert [path for path in LIBRARY if part in path] == []


def test_every_extension_module_has_its_libraries() -> None:
    """Each extension module of the layer finds all it needs in the layer."""
    files, missing = interpreter.libraries(samples.PROGRAM, OBJECTS)
    paths = {file.path: file for file in files}
    assert missing == {}
    assert {
        "bin/kluis-launcher",
        "lib/ld-linux-x86-64.so.2",
        "lib/libc.so.6",
        "lib/libssl.so.3",
    } <= paths.keys()
    assert paths["bin/kluis-launcher"].mode == paths["lib/ld-linux-x86-64.so.2"].mode == 0o555


def test_the_layer_runs_by_itself(tmp_path: Path) -> None:
    """Laid out in a folder, the layer starts by itself and loads no library from elsewhere."""
    program = tmp_path / "program.c"
    library = Path(sysconfig.get_config_var("LIBDIR")) / str(sysconfig.get_config_var("LDLIBRARY"))
    if not sysconfig.get_config_var("Py_ENABLE_SHARED") or not library.exists():
        pytest.skip("this interpreter has no shared library to link with")
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").exists():
        pytest.skip("no Python.h")
    program.write_text(
        "#include <Python.h>\nint main(int c, char **v) { PyConfig k; PyConfig_InitIsolatedConfig(&k);\n"
        "k.site_import = 0; PyConfig_SetBytesString(&k, &k.home, v[1]);\n"
        "if (PyStatus_Exception(Py_InitializeFromConfig(&k))) return 9; return PyRun_SimpleString(v[2]); }\n"
    )
    binary = tmp_path / "program"
    subprocess.run(["gcc", "-w", f"-I{include}", "-o", binary, program, library], check=True)
    root = tmp_path / "k"
    for file in [*LIBRARY.values(), *interpreter.libraries(binary, OBJECTS)[0]]:
        target = root / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read())
        target.chmod(file.mode)
    code = (
        "import ssl, sqlite3, ctypes, decimal, lzma, bz2, uuid, hashlib, sys\n"
        f"assert ssl.__file__.startswith({str(root)!r}), ssl.__file__\n"
        "maps = {line.split()[-1] for line in open('/proc/self/maps') if '.so' in line}\n"
        f"assert all(path.startswith({str(root)!r}) for path in maps), maps\n"
    )
    loader = root / "lib" / "ld-linux-x86-64.so.2"
    done = subprocess.run(
        [loader, "--library-path", root / "lib", root / "bin" / "kluis-launcher", str(root), code],
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_launcher_that_cannot_be_carried(tmp_path: Path) -> None:
    """A launcher whose libraries are not here is refused at build, not at launch."""
    (tmp_path / "c.c").write_text("int f(void) { return 1; }\nint main(void) { return f(); }\n")
    compiler = ["gcc", "-w", str(tmp_path / "c.c")]
    try:
        subprocess.run([*compiler, "-shared", "-fPIC", "-o", tmp_path / "libgone.so"], check=True)
    except FileNotFoundError:
        pytest.skip("no gcc on this machine")
    needs = ["-Wl,--no-as-needed", f"-L{tmp_path}", "-lgone"]
    (tmp_path / "bin").mkdir()
    subprocess.run([*compiler, *needs, "-o", tmp_path / "bin" / "launcher"], check=True)
    (tmp_path / "libgone.so").unlink()
    with pytest.raises(UnavailableError) as caught:
        interpreter.libraries(tmp_path / "bin" / "launcher", {})
    assert caught.value.message == "launcher: want all its libraries, found no libgone.so"


def test_the_version_is_the_running_one() -> None:
    """The manifest states the interpreter that the image was built with."""
    assert interpreter.version() == platform.python_version()
    for path in LIBRARY:
        sources.refuse_hooks(path, "python")
