"""docs/tutorial.md: what it says to type works, and prints what it says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from bootlease.testing.verifier_process import free_port

ROOT: Final = Path(__file__).resolve().parents[2]
PORTS: Final = ("8400", "8000")
"""Of the verifier and of the tool server."""
SECONDS: Final = 240
BLOCK: Final = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
MARK: Final = "--- tutorial, command"


@dataclass
class Step:
    """A command with its continuation lines, and the lines that it is said to print."""

    command: str
    printed: list[str] = field(default_factory=list)


def steps(page: str) -> Iterator[Step]:
    """Yield the commands of every console block, in order."""
    for block in BLOCK.findall(page):
        step = None
        for line in block.splitlines():
            if line.startswith("$ "):
                if step is not None:
                    yield step
                step = Step(line[2:])
            elif step is None:
                pytest.fail(f"a block begins with output: {line}")
            elif step.command.endswith("\\"):
                step.command += f"\n{line}"
            else:
                step.printed.append(line)
        if step is not None:
            yield step


def script(told: list[Step]) -> str:
    """Return what a person's shell would be given, each command followed by a mark.

    The mark leaves ``$?`` as it was.
    """
    lines = ["set -m"]  # a person's shell has job control
    for number, step in enumerate(told):
        lines += [
            step.command,
            f'status=$?; echo; echo "{MARK} {number}: $status"; (exit $status)',
        ]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def nobody_left() -> Iterator[None]:
    """End what a failed tutorial left in the background."""
    try:
        yield
    finally:
        for pid in children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def children() -> Iterator[int]:
    """Yield the processes that work in a tutorial's folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if "/tutorial-source/" in f"{(entry / 'cwd').readlink()}/":
                    yield int(entry.name)


def matches(line: str, said: str) -> bool:
    """Tell whether a printed line is what the page says, ``…`` standing for anything."""
    return re.fullmatch(".*".join(map(re.escape, said.split("…"))), line) is not None


def unprinted(output: str, said: list[str]) -> list[str]:
    """Return what the page says, from the first line that was not printed, or not in this order."""
    lines = iter(output.splitlines())
    for number, wanted in enumerate(said):
        if not any(matches(line, wanted) for line in lines):
            return said[number:]
    return []


@pytest.mark.swtpm
def test_tutorial_can_be_typed(tmp_path: Path) -> None:
    """Copied into one shell, each command succeeds or is said to fail, and prints what is said."""
    source = tmp_path / "tutorial-source"
    source.mkdir()
    for name, target in (
        (".venv", Path(sys.prefix)),
        ("swtpm", ROOT / "swtpm"),
        ("examples", ROOT / "examples"),
    ):
        (source / name).symlink_to(target)
    page = (ROOT / "docs" / "tutorial.md").read_text()
    for port in PORTS:
        page = page.replace(port, str(free_port()))
    told = list(steps(page))
    assert len(told) > 20
    written = tmp_path / "output"
    (tmp_path / "script").write_text(script(told))
    with nobody_left(), written.open("wb") as output:
        subprocess.run(
            ["bash", str(tmp_path / "script")],
            cwd=source,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
        )
        left = list(children())
    parts = re.split(rf"^{MARK} \d+: (\d+)$", written.read_text(), flags=re.MULTILINE)
    outputs, codes = parts[0::2], parts[1::2]
    assert len(codes) == len(told), f"the shell ended early: {outputs[-1]}"
    for number, step in enumerate(told):
        told_to_fail = number + 1 < len(told) and told[number + 1].command == "echo $?"
        assert (codes[number] != "0") == told_to_fail, f"{step.command}: {outputs[number]}"
        assert unprinted(outputs[number], step.printed) == [], outputs[number]
    assert left == []
    assert {path.name for path in source.iterdir()} == {".venv", "swtpm", "examples"}
