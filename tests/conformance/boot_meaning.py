"""Recorded logs and what they mean, kept as hashes: the expected values of ``test_boot_meaning``.

    python tests/conformance/boot_meaning.py diff          what would change, in clear, on stdout
    python tests/conformance/boot_meaning.py write         write the expected hashes
    python tests/conformance/boot_meaning.py dump FOLDER   write every meaning in clear, to compare
                                                           two versions of the program with diff -r

The recorded logs are no part of this repository, and neither is anything that was read from them:
``expected_boot_meaning.tsv`` has names and hashes only. Before ``write``, look at what ``diff``
prints and check it against the log.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from bootlease.bootstate.read import read_boot_state
from bootlease.bootstate.view import AttestedLog
from bootlease.cli.boot_json import boot_state_as_dict
from bootlease.errors import MalformedError
from bootlease.eventlog import parse_event_log, replay
from bootlease.model import HashAlg

ROOT: Final = Path(__file__).resolve().parents[2]
EXPECTED: Final = Path(__file__).with_name("expected_boot_meaning.tsv")
BANKS: Final = (HashAlg.SHA256, HashAlg.SHA384, HashAlg.SHA1)
REFUSED: Final = "malformed"
SHOWN: Final = 16

ASPECTS: Final = (
    *("firmware", "option_roms", "secure_boot", "separators", "boot_options", "partitions"),
    *("boot_applications", "exit_boot_services", "shim", "grub", "unified_kernel"),
    *("kernel_command_lines", "initrds", "windows", "opaque", "quirks", "findings"),
)


def meaning(data: bytes) -> dict[str, Any] | None:
    """Return what a log means if all of it is attested, ``None`` for what is no log."""
    try:
        log = parse_event_log(data)
    except MalformedError:
        return None
    bank = next(bank for bank in BANKS if bank in log.banks)
    return boot_state_as_dict(read_boot_state(AttestedLog.of(replay(log, [bank]), bank)))


def hashes(data: bytes) -> tuple[str, ...]:
    """Return the SHA-256 of each aspect's canonical JSON, in the order of ``ASPECTS``."""
    state = meaning(data)
    if state is None:
        return (REFUSED,) * len(ASPECTS)
    return tuple(
        hashlib.sha256(canonical(state[aspect]).encode()).hexdigest()[:SHOWN] for aspect in ASPECTS
    )


def canonical(value: object) -> str:
    """Return JSON with sorted keys and without blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def expected() -> dict[str, tuple[str, ...]]:
    """Return the kept rows by name: SHA-256 of the log, then the hash of each aspect."""
    rows = [line.split("\t") for line in EXPECTED.read_text().splitlines()]
    if rows[0] != ["log", "sha256", *ASPECTS]:
        raise ValueError(f"{EXPECTED.name} has other columns than this program")
    return {row[0]: tuple(row[1:]) for row in rows[1:]}


def row(path: Path) -> tuple[str, ...]:
    """Return the row of a log, without its name."""
    data = path.read_bytes()
    return (hashlib.sha256(data).hexdigest(), *hashes(data))


def logs() -> list[Path]:
    """Return the recorded logs, in the order of their names."""
    folder = ROOT / os.environ.get("BOOTLEASE_CORPUS", "../shared/corpus") / "eventlogs"
    return sorted(folder.resolve().glob("*"))


def _diff() -> None:
    kept = expected() if EXPECTED.exists() else {}
    for path in logs():
        was, now = kept.get(path.name, ()), row(path)
        if was == now:
            continue
        state = meaning(path.read_bytes())
        for number, aspect in enumerate(ASPECTS, 1):
            if was[number : number + 1] != now[number : number + 1]:
                shown = "-" if state is None else canonical(state[aspect])
                sys.stdout.write(f"{path.name}\t{aspect}\t{shown}\n")
    for name in kept.keys() - {path.name for path in logs()}:
        sys.stdout.write(f"{name}\tis no longer recorded\n")


def _write() -> None:
    lines = ["\t".join(("log", "sha256", *ASPECTS))]
    lines += ["\t".join((path.name, *row(path))) for path in logs()]
    EXPECTED.write_text("\n".join(lines) + "\n")


def _dump(folder: Path) -> None:
    if folder.resolve().is_relative_to(ROOT):
        raise SystemExit("what recorded logs mean stays outside the repository")
    folder.mkdir(parents=True, exist_ok=True)
    for path in logs():
        state = meaning(path.read_bytes())
        (folder / f"{path.name}.json").write_text(json.dumps(state, indent=1, sort_keys=True))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["diff"]:
            _diff()
        case ["write"]:
            _write()
        case ["dump", folder]:
            _dump(Path(folder))
        case _:
            raise SystemExit(__doc__)
