"""Fuzzing by coverage: ``python -m tests.fuzz.run [TARGET...] [--seconds N]``.

Runs each target in a process of its own under Atheris (libFuzzer), some at once, from what is kept
in ``tests/fuzz/corpus`` and from fresh seeds. A crash, an input of more than five seconds or of
more than a gigabyte ends a target, and its input is kept in ``tests/fuzz/crashes``: once mended, it
stays there as a regression test.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
CORPUS: Final = HERE / "corpus"
CRASHES: Final = HERE / "crashes"
MAX_KEPT: Final = 2048
"""Bytes of an input that is kept."""
MAX_FILES: Final = 96
"""Inputs that are kept for a target."""
_ONE: Final = "--one"
_EXECUTIONS: Final = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_PACKAGES: Final = ["bootlease", "tests.fuzz"]


def main() -> int:
    """Fuzz, print a line for each target, and return 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("targets", nargs="*", help="all, if none is named")
    parser.add_argument("--seconds", type=int, default=600, help="for each target (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at once (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="add what covers more to the corpus")
    if sys.argv[1:2] == [_ONE]:
        return fuzz(sys.argv[2], sys.argv[3:])
    options = parser.parse_args()
    from tests.fuzz.seeds import seeds  # noqa: PLC0415 - the process that fuzzes loads its own
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - as above

    if unknown := set(options.targets) - TARGETS.keys():
        parser.error(f"unknown targets {sorted(unknown)}; there are {', '.join(TARGETS)}")
    names = options.targets or list(TARGETS)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(options.jobs) as pool:
        for target, name, data in seeds():
            write(Path(scratch, target), TARGETS[target].input_for(name, data))
        failed = [
            name
            for name, passed in zip(
                names,
                pool.map(lambda each: run(each, Path(scratch), options), names),
                strict=True,
            )
            if not passed
        ]
    if failed:
        print(f"fuzz: failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def write(folder: Path, data: bytes) -> None:
    """Keep an input under its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha256(data).hexdigest()[:32]).write_bytes(data)


def run(name: str, scratch: Path, options: argparse.Namespace) -> bool:
    """Fuzz one target in a process of its own."""
    found, fresh = scratch / f"{name}.found", scratch / name
    found.mkdir()
    fresh.mkdir(exist_ok=True)
    (CRASHES / name).mkdir(parents=True, exist_ok=True)
    kept = CORPUS / name
    folders = [str(found), str(fresh), *([str(kept)] if kept.is_dir() else [])]
    command = [
        *(sys.executable, "-m", "tests.fuzz.run", _ONE, name),
        *(f"-max_total_time={options.seconds}", "-timeout=5", "-rss_limit_mb=1024"),
        *(f"-artifact_prefix={CRASHES / name}/", "-print_final_stats=1", "-max_len=65536"),
        *folders,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    executed = _EXECUTIONS.search(done.stderr)
    count = int(executed[1]) if executed else 0
    verdict = "nothing found" if done.returncode == 0 else f"FAILED ({done.returncode})"
    print(f"{name}: {count:,} executions in {options.seconds} s, {verdict}", flush=True)
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
    elif options.keep:
        keep(name, found)
    if not any((CRASHES / name).iterdir()):
        (CRASHES / name).rmdir()
    return done.returncode == 0 and count > 0


def keep(name: str, found: Path) -> None:
    """Keep what reached something new: the smallest inputs, a bounded number."""
    kept = CORPUS / name
    kept.mkdir(parents=True, exist_ok=True)
    inputs = {file.read_bytes() for folder in (kept, found) for file in folder.iterdir()}
    chosen = sorted((each for each in inputs if len(each) <= MAX_KEPT), key=len)
    for file in kept.iterdir():
        file.unlink()
    # Of every size, so that the deep ones are among them.
    for number in range(min(MAX_FILES, len(chosen))):
        write(kept, chosen[number * len(chosen) // min(MAX_FILES, len(chosen))])


def fuzz(name: str, arguments: list[str]) -> int:
    """Be the process that fuzzes one target."""
    import atheris  # noqa: PLC0415 - nobody else needs it

    with atheris.instrument_imports(include=_PACKAGES):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - instrumented

    atheris.Setup([sys.argv[0], *arguments], TARGETS[name].run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
