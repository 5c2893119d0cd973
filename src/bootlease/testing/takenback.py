"""The demonstration's middle chapter: a lease that was copied and passed on, and is taken back.

The commands are those that thief and operator type, on the files that the chapters before left.
"""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bootlease.errors import TransportError
from bootlease.testing.holder import Holder
from bootlease.testing.story import Story, run_command

_PATIENCE: Final = 30.0
_REVOKED: Final = {"token.revoked", "token.parent.revoked"}


@dataclass(frozen=True, slots=True)
class Stolen:
    """What a thief has, and where he uses it.

    Attributes:
        folder: A private folder for all files.
        tool: URL of the tool.
        copy: The lease that was copied.
        child: A lease that he made of it, for a key of his own.
    """

    folder: Path
    tool: str
    copy: Holder
    child: Holder


def steal(story: Story, folder: Path, tool: str, token: Path, key: Path) -> Stolen:
    """Copy a token and its key, and pass the lease on.

    Args:
        story: Where it is told.
        folder: Where files are written; the join bundle is there.
        tool: URL of the tool.
        token: File with a fresh token.
        key: File with its key.

    Raises:
        TransportError: A part did not do what it must.
    """
    stolen, kept = folder / "stolen-token", folder / "stolen-key.pem"
    shutil.copyfile(token, stolen)
    shutil.copyfile(key, kept)
    mine, grant, child = folder / "own-key.pem", folder / "grant", folder / "child-token"
    mine.write_bytes(_new_key())
    _write(story, grant, "delegate", str(stolen), "--key", str(kept), "--to", str(mine))
    bundle = ("--bundle", f"{folder}/join.json")
    _write(
        story, child, "exchange", str(stolen), "--grant", str(grant), "--key", str(mine), *bundle
    )
    thief = Stolen(folder, tool, Holder.read(stolen, kept), Holder.read(child, mine))
    for what, holder in (("the copy", thief.copy), ("the delegated lease", thief.child)):
        answer = holder.call(tool)
        if answer.status_code != httpx2.codes.OK:
            raise TransportError(f"the tool answered {answer.status_code}: {answer.text}")
        story.tell(f"GET /search, with {what} -> 200 {answer.json()['result']}")
    return thief


def revoke(story: Story, thief: Stolen, verifier: str) -> None:
    """Revoke the lease that was copied, while the thief goes on calling.

    Args:
        story: Where it is told.
        thief: Who has it.
        verifier: URL of the verifier.

    Raises:
        TransportError: A part did not do what it must.
    """
    lease = thief.copy.held.claims.lease_id.hex()
    holders = (("the copy", thief.copy), ("the delegated lease", thief.child))
    with ThreadPoolExecutor(len(holders)) as pool:
        calls = [
            (what, pool.submit(holder.call_until_refused, thief.tool, seconds=_PATIENCE))
            for what, holder in holders
        ]
        began = time.monotonic()
        said = run_command(
            story,
            *("revoke", "lease", lease, "--reason", "copied", "--verifier", verifier),
            *("--credential-file", f"{thief.folder}/admin"),
        )
        took = time.monotonic() - began
        for line in said.splitlines():
            story.tell(line)
        for what, refused in calls:
            answer, at = refused.result()
            if answer.json()["findings"][0]["id"] not in _REVOKED:
                raise TransportError(f"refused for another reason: {answer.text}")
            story.tell(
                f"GET /search, with {what} -> {answer.status_code} {answer.json()['detail']}"
            )
            story.tell(f"  {_ms(at - began)} after the command was given; it ran for {_ms(took)}")


def _write(story: Story, out: Path, command: str, *arguments: str) -> None:
    story.command(("token", command, *arguments, ">", str(out)))
    out.write_text(run_command(story, "token", command, *arguments, show=False))


def _new_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
