"""``bootlease demo``: the story is true to its end, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

STORY: Final = (
    r"lease 3 granted: tool:search for https://tools.example",
    r"GET /search -> 200 42 documents",
    r"GET /search, with the copy -> 200 42 documents",
    r"GET /search, with the delegated lease -> 200 42 documents",
    r"\$ bootlease revoke lease [0-9a-f]{32} ",
    r"GET /search, with the copy -> 401 The lease was ended before its time\. \d+ ms after",
    r"GET /search, with the delegated lease -> 401 .*?A lease that this one was delegated from",
    r"lease \d+ granted: tool:search",
    r"GET /search -> 200 42 documents",
    r"\$ bootlease run --socket agent.sock --scope tool:search",
    r"call \d+: 200 42 documents: 10 calls, one every 100 ms, were answered",
    r"its tree: 4 processes",
    r"Its guard is killed \(SIGKILL\) all of its tree is gone \d+ ms later",
    r"call \d+: 200 42 documents: 10 calls",
    r"refused: PCR 14 was extended by something that the event log",
    r"call \d+: 200 42 documents: its last",
    r"bootlease: the verifier refused to renew the lease \(exit code 121\)",
    r"all of its tree is gone, the daemon too, \d+\.\d\d s after the change",
    r"GET /search, with a copy -> 401 DPoP error=\"invalid_token\"",
    r"refused: event \d+, PCR 8: GRUB command: linux /vmlinuz",
    r"no token was issued",
    r"lease.proof: \d+ bytes, \d+ decisions, with the token, 0 witnesses",
    r"\$ bootlease ledger verify lease.proof --trust join.json",
    r"accepted",
    r"all \d+ decisions of the lineage, made again from the evidence in the file",
    r"the scope tool:search is now tool:searci",
    r"refused: The token's signature does not verify",
    r"decisions made again \(\d+ grants, [2-9] refusals\), \d+ rows: identical",
    r"Everything is stopped; nothing is left behind",
)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder for temporary files, whose name leaves room for that of a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        yield Path(folder)


@pytest.mark.swtpm
def test_demo_tells_the_whole_story(short_folder: Path) -> None:
    """Each chapter happens, in order; no file and no process is left."""
    done = subprocess.run(
        [sys.executable, "-m", "bootlease", "demo"],
        env={**os.environ, "TMPDIR": str(short_folder)},
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.split())
    at = 0
    for wanted in STORY:
        found = re.compile(wanted).search(told, at)
        assert found is not None, f"{wanted} is not told after: {told[:at][-200:]}"
        at = found.end()
    assert list(short_folder.iterdir()) == []
    assert list(processes_naming(str(short_folder))) == []


def processes_naming(folder: str) -> Iterator[str]:
    """Yield the command lines that hold a path."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if folder in command:
            yield command
