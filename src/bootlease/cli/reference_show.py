"""``bootlease reference show``: what a reference set says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Final

import click

from bootlease.cli.reference_files import json_option, read_any_reference
from bootlease.cli.utc import utc
from bootlease.eventlog import type_name
from bootlease.ima import display_name
from bootlease.reference import (
    AnyReference,
    EventsReference,
    IMAReferenceSet,
    PCRReference,
    ReferenceSet,
    serialise_any_reference,
)
from bootlease.reference.bootfile import boot_rules_file
from bootlease.reference.imadifference import scope_text
from bootlease.reference.imaset import Origin

_DIGEST_SHOWN: Final = 16
_ORIGINS: Final = {
    Origin.BUILT: "made of the files themselves",
    Origin.LEARNED: "learned from a running node: as good as that node was",
}


@click.command()
@click.argument("file", type=click.File("rb", lazy=True))
@json_option
def show(file: IO[bytes], *, as_json: bool) -> None:
    """Print the reference set in FILE ("-" for standard input)."""
    loaded = read_any_reference(file)
    if as_json:
        members = json.loads(serialise_any_reference(loaded))
        click.echo(json.dumps({"digest": loaded.digest.hex(), **members}, indent=2))
        return
    for line in _lines(loaded):
        click.echo(line)


def _lines(reference: AnyReference) -> Iterator[str]:
    bank = f", bank {reference.bank.label}" if isinstance(reference, ReferenceSet) else ""
    yield f"{reference.label}{bank}"
    yield f"digest {reference.digest.hex()}"
    if reference.not_before is not None or reference.not_after is not None:
        start = "any time" if reference.not_before is None else utc(reference.not_before)
        end = "any time" if reference.not_after is None else utc(reference.not_after)
        yield f"valid from {start} to {end}"
    if isinstance(reference, IMAReferenceSet):
        yield from _files(reference)
        return
    for pcr, constraint in reference.pcrs.items():
        yield from _pcr(pcr, constraint)
    if reference.boot is not None:
        yield "boot rules:"
        rules = json.dumps(boot_rules_file(reference.boot), indent=2, ensure_ascii=True)
        yield from (f"  {line}" for line in rules.splitlines())


def _pcr(pcr: int, constraint: PCRReference) -> Iterator[str]:
    if isinstance(constraint, EventsReference):
        yield f"PCR {pcr}: by events, {len(constraint.events)} known"
    else:
        yield f"PCR {pcr}: {' or '.join(value.hex() for value in constraint.values)}"
    for event in constraint.events:
        mark = " " if event.required else "?"
        shown = event.digest.hex()[:_DIGEST_SHOWN]
        yield f"  {mark} {type_name(event.type):<32}  {shown}  {event.description}"


def _files(reference: IMAReferenceSet) -> Iterator[str]:
    yield f"files that a system may load, {_ORIGINS[reference.origin]}"
    for name, key in reference.signers.items():
        yield f"signer {name}, key ends {key.hex()[-_DIGEST_SHOWN:]}"
    for rule in reference.signed:
        yield f"{', '.join(rule.signers)} may sign {scope_text(rule.scope)}"
    for path in reference.content_below:
        yield f"copies of listed files may lie below {display_name(path)}"
    for scope in reference.unsafe_exclude:
        yield f"not judged at all (unsafe_exclude): {scope_text(scope)}"
    for what, listed in (("files", reference.files), ("buffers", reference.buffers)):
        if listed:
            yield f"{len(listed)} {what}:"
        for path, digests in listed.items():
            for digest in digests:
                yield f"  {digest}  {display_name(path)}"
