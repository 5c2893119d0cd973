"""The demonstration's last chapter: an auditor, and a verifier that no longer runs.

The commands are those that an auditor types, on the files that the chapters before left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bootlease.errors import TransportError
from bootlease.testing.examples import SCOPE
from bootlease.testing.story import Story, run_command, run_refused

_TOLD: Final = {
    "This proves:": ("made again", "a TPM with the AK"),
    "It does not prove:": ("this tree", "besides what was measured"),
}
"""What is told of a proof's two lists: lines with one of these words."""
_BIT: Final = 0x01


def audit(story: Story, folder: Path, verifier: Path, token: Path, bundle: Path) -> None:
    """Have a granted lease proven, the proof checked and spoilt, and every decision made again.

    Args:
        story: Where it is told.
        folder: Where files are written.
        verifier: The folder of a verifier that has been stopped.
        token: File with the lease's token.
        bundle: The verifier's join bundle.

    Raises:
        TransportError: A part did not do what it must.
    """
    proof = folder / "lease.proof"
    story.step("The verifier is stopped. An auditor asks why that lease was granted: one file says")
    written = run_command(
        story, "ledger", "proof", str(token), "--data", str(verifier), "--out", str(proof)
    )
    story.tell(written.strip())
    with _out_of_reach(verifier):
        story.step("The join bundle is enough to check it: the verifier's folder is locked away")
        _verify(story, proof, bundle)
        story.step("One bit of the file is changed")
        _spoil(story, proof, folder / "spoilt.proof", bundle)
    story.step("Every decision, grant or refusal, is made again from what was recorded")
    # One process: starting others would take longer than the work.
    made = run_command(story, "replay", "--all", "--data", str(verifier), "--workers", "1")
    story.tell(made.strip())


@contextmanager
def _out_of_reach(folder: Path) -> Iterator[None]:
    elsewhere = folder.with_name(f"{folder.name}-locked-away")
    folder.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(folder)


def _verify(story: Story, proof: Path, bundle: Path) -> None:
    lines = run_command(story, "ledger", "verify", str(proof), "--trust", str(bundle)).splitlines()
    story.tell(lines[0])
    for heading, wanted in _TOLD.items():
        if heading not in lines:
            raise TransportError(f"the verified proof does not say {heading!r}")
        story.tell(heading)
        for line in lines[lines.index(heading) + 1 :]:
            if not line.startswith("- "):
                break
            if any(words in line for words in wanted):
                story.tell(line)


def _spoil(story: Story, proof: Path, spoilt: Path, bundle: Path) -> None:
    data = bytearray(proof.read_bytes())
    if SCOPE.encode() not in data:
        raise TransportError("the proof does not name the scope")
    at = data.index(SCOPE.encode()) + len(SCOPE) - 1
    data[at] ^= _BIT
    spoilt.write_bytes(data)
    story.tell(f"byte {at}: the scope {SCOPE} is now {SCOPE[:-1]}{chr(data[at])}")
    for line in run_refused(
        story, "ledger", "verify", str(spoilt), "--trust", str(bundle)
    ).splitlines():
        story.tell(line)
