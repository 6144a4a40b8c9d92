"""Fuzzes every target, one after the other.

python fuzz/run.py [--seconds N] [--engine E] [--list] [PART OF A NAME...]

Each target runs in a process of its own for $FUZZ_SECONDS (600) under atheris, whose coverage guides it;
where atheris is not installed, under the mutations of ``fuzz/mutate.py``. An input that breaks a promise
is kept under ``vectors/crashes``; exits with 1 if there was one.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

SLOWEST_SECONDS = 5
HUNG_SECONDS = 120
MEMORY_MIB = 2048
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERED = re.compile(r"cov: (\d+)")


def main(argv: list[str]) -> int:
    """Run the targets named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("target", nargs="*")
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("FUZZ_SECONDS", "600")))
    parser.add_argument("--engine", choices=("atheris", "mutations"))
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    engine = args.engine or ("atheris" if importlib.util.find_spec("atheris") else "mutations")
    if args.inside:
        return _inside(args.inside, engine, args.seconds)
    from fuzz.targets import targets

    names = list(targets())
    if args.list:
        print("\n".join(names))
        return 0
    chosen = [name for name in names if not args.target or any(word in name for word in args.target)]
    print(f"{len(chosen)} targets, {args.seconds:g} s each, engine {engine}", flush=True)
    return max([_outside(name, engine, args.seconds) for name in chosen], default=0)


def _outside(name: str, engine: str, seconds: float) -> int:
    begun = time.monotonic()
    words = [sys.executable, __file__, "--inside", name, "--engine", engine, "--seconds", str(seconds)]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    said = done.stdout + done.stderr
    executed = _EXECUTED.search(said)
    covered = _COVERED.findall(said)
    figures = f"{executed[1] if executed else '?':>10} inputs"
    if covered:
        figures += f", {covered[-1]} edges"
    took = time.monotonic() - begun
    print(f"{'ok' if done.returncode == 0 else 'FOUND':6}{name:48}{figures}, {took:.0f} s", flush=True)
    if done.returncode:
        print(f"{'':6}" + "\n      ".join(said.strip().splitlines()[-12:]), flush=True)
    return int(done.returncode != 0)


def _inside(name: str, engine: str, seconds: float) -> int:
    if engine == "mutations":
        return _mutations(name, seconds)
    import atheris

    with atheris.instrument_imports(include=["kluis"]):
        from fuzz import crash, pool
        from fuzz.targets import targets

        target = targets()[name]
    good = pool.seeds(target)
    with tempfile.TemporaryDirectory(prefix="kluis-fuzz-") as folder:
        corpus, artifacts = Path(folder, "corpus"), Path(folder, "artifacts")
        corpus.mkdir()
        artifacts.mkdir()
        for index, data in enumerate(good):
            (corpus / str(index)).write_bytes(data)

        read = _judged(name, target.run, crash.keep)
        options = {
            "max_total_time": int(seconds),
            "timeout": HUNG_SECONDS,
            "rss_limit_mb": MEMORY_MIB,
            "max_len": pool.MOST_BYTES,
            "print_final_stats": 1,
            "artifact_prefix": f"{artifacts}/",
        }
        words = [sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(corpus)]
        child = os.fork()  # the engine ends its process, whatever comes of it
        if child == 0:
            code = 1
            try:
                atheris.Setup(words, read)
                atheris.Fuzz()
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                sys.stdout.flush()
                os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for left in artifacts.iterdir():  # an input too slow or too large ends the engine from outside
            if not left.name.startswith("crash-"):
                crash.keep(name, left.read_bytes(), f"the engine's {left.name.partition('-')[0]}")
    return int(status != 0)


def _mutations(name: str, seconds: float) -> int:
    from fuzz import crash, mutate, pool
    from fuzz.targets import targets

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MIB << 20, MEMORY_MIB << 20))
    target = targets()[name]
    read = _judged(name, target.run, crash.keep)
    count = mutate.run(read, pool.seeds(target), seconds, seed=len(name))
    print(f"stat::number_of_executed_units: {count}")
    return 0


def _judged(
    name: str, run: Callable[[bytes], object], keep: Callable[[str, bytes, str], object]
) -> Callable[[bytes], None]:
    """Run one input, and keep it if it breaks a promise; seconds are of the processor."""

    def read(data: bytes) -> None:
        begun = time.process_time()
        try:
            run(data)
            if (took := time.process_time() - begun) > SLOWEST_SECONDS:
                raise TimeoutError(f"took {took:.1f} s")
        except BaseException as error:
            keep(name, data, f"{type(error).__name__}: {error}")
            raise

    return read


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
