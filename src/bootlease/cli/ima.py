"""``bootlease ima``: reading and replaying what a running Linux kernel measured."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any, Final

import click

from bootlease.cli.files import naming
from bootlease.errors import MalformedError
from bootlease.eventlog.hashes import hash_constructor
from bootlease.ima import (
    DEFAULT_LIMITS,
    IMA_PCR,
    IMAState,
    Kind,
    TemplateHash,
    attest_list,
    display_name,
    looks_like_text,
    measured_key,
    parse_ascii_list,
    parse_file_signature,
    parse_list,
    replay_list,
)
from bootlease.model import HashAlg

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bootlease.ima import IMAEntry, Measurement

_NO_LIST: Final = "not a measurement list of IMA"
_LIST_HASHES: Final = {
    alg.size: alg for alg in (HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384, HashAlg.SHA512)
}
_DEFAULT_BANKS: Final = tuple(_LIST_HASHES.values())


class QuotedValue(click.ParamType[tuple[HashAlg, bytes]]):
    """``sha256:<hex>``: a bank and its value of PCR 10."""

    name = "BANK:HEX"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[HashAlg, bytes]:
        """Read the option's value."""
        label, colon, digits = str(value).partition(":")
        if not colon:
            self.fail(f"{value!r:.80} is not BANK:HEX, such as sha256:<64 hex digits>", param, ctx)
        try:
            bank = HashAlg.from_label(label)
            digest = bytes.fromhex(digits)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        if len(digest) != bank.size:
            self.fail(f"a {label} value has {bank.size} bytes, not {len(digest)}", param, ctx)
        if hash_constructor(bank) is None:
            self.fail(f"this build of OpenSSL has no {label}", param, ctx)
        return bank, digest


_file = click.argument("file", type=click.File("rb"))
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(name="ima")
def ima() -> None:
    """Read and replay what a running Linux kernel measured.

    Lists are those that the kernel shows under /sys/kernel/security/ima.
    """


@ima.command()
@_file
@_json
def show(file: IO[bytes], *, as_json: bool) -> None:
    """Print every entry of a measurement list.

    FILE is a binary_runtime_measurements, or an ascii_runtime_measurements where it can be read for
    sure; "-" is standard input. Nothing in it is verified. An entry that does not have the hash it
    claims is marked.
    """
    data = _read(file)
    with naming(f"{_name(file)} is {_NO_LIST}"):
        entries = parse_ascii_list(data) if looks_like_text(data) else parse_list(data)
        for line in _json_lines(entries) if as_json else map(_line, entries):
            click.echo(line)


@ima.command(name="replay")
@_file
@_json
@click.option(
    "--quoted",
    type=QuotedValue(),
    multiple=True,
    help="PCR 10 of a bank: find the entries that lead to it. Several banks must agree.",
)
@click.option(
    "--sha1-padding",
    is_flag=True,
    help="Replay a kernel before 5.8, which extends SHA-1 into every bank.",
)
def replay_command(
    file: IO[bytes],
    *,
    as_json: bool,
    quoted: tuple[tuple[HashAlg, bytes], ...],
    sha1_padding: bool,
) -> None:
    """Print the PCR 10 that a measurement list leads to, bank by bank.

    FILE is a binary_runtime_measurements from the boot on; "-" is standard input. With --quoted the
    replay stops where PCR 10 has that value: what follows was measured later and counts for
    nothing. That no part of the list leads there is a refusal.
    """
    data = _read(file)
    if len(dict(quoted)) != len(quoted):
        raise click.UsageError("--quoted names a bank twice")
    with naming(f"{_name(file)} is {_NO_LIST}"):
        if looks_like_text(data):
            raise MalformedError("text does not hold what was hashed; take the binary list")
        state, ahead = _replay(data, dict(quoted), sha1_padding=sha1_padding)
    if as_json:
        click.echo(json.dumps(_state_as_dict(state, ahead), indent=2))
        return
    for bank, value in state.pcrs.items():
        click.echo(f"{bank.label}:{IMA_PCR}  {value.hex()}  after {state.entries} entries")
    if ahead:
        click.echo(f"{ahead} entries follow, measured after the quote")


def _replay(
    data: bytes, quoted: dict[HashAlg, bytes], *, sha1_padding: bool
) -> tuple[IMAState, int]:
    if quoted:
        attested = attest_list(IMAState.START, data, quoted, unsafe_sha1_padding=sha1_padding)
        return attested.state, attested.ahead
    scheme = TemplateHash.SHA1_PADDED if sha1_padding else TemplateHash.PER_BANK
    return replay_list(data, _DEFAULT_BANKS, template_hash=scheme), 0


def _read(file: IO[bytes]) -> bytes:
    # One byte beyond the limit is enough for the parser to refuse an endless input.
    return file.read(DEFAULT_LIMITS.max_bytes + 1)


def _name(file: IO[bytes]) -> str:
    name = getattr(file, "name", None)
    return name if isinstance(name, str) and name != "<stdin>" else "standard input"


def _measurement(entry: IMAEntry) -> Measurement | str:
    """Return what an entry says, or why it cannot be read."""
    try:
        return entry.measurement()
    except MalformedError as exc:
        return str(exc)


def _has_its_hash(entry: IMAEntry) -> bool:
    alg = _LIST_HASHES.get(len(entry.template_hash))
    return entry.violation or alg is None or alg.digest(entry.data) == entry.template_hash


def _line(entry: IMAEntry) -> str:
    measured = _measurement(entry)
    start = f"{entry.number:>6}  PCR {entry.pcr:>2}  {display_name(entry.template):<8}"
    marks = [] if _has_its_hash(entry) else ["not the hash it claims"]
    if entry.violation:
        marks.append("violation: written while in use")
    if isinstance(measured, str):
        return "  ".join((start, "-", *(f"[{mark}]" for mark in (*marks, measured))))
    if measured.kind is Kind.BUFFER:
        key = measured_key(entry, measured)
        marks.append(
            f"buffer of {len(measured.buffer)} bytes"
            if key is None
            else f"key for the kernel's keyring {key.keyring}, SHA-256 {key.fingerprint}"
        )
    marks += _signature_marks(measured)
    name = "-" if measured.name is None else display_name(measured.name)
    digest = "-" if measured.digest is None else str(measured.digest)
    return "  ".join((start, digest, name, *(f"[{mark}]" for mark in marks)))


def _signature_marks(measured: Measurement) -> Iterator[str]:
    for data in (measured.signature, measured.evm_signature):
        if data:
            try:
                signature = parse_file_signature(data)
            except MalformedError as exc:
                yield f"signature malformed: {exc}"
            else:
                yield f"signature of key {signature.key_id.hex()}, unverified"
    if measured.modsig:
        yield "appended signature, unverified"


def _json_lines(entries: Iterable[IMAEntry]) -> Iterator[str]:
    """Yield the lines of one JSON object, so that a long list is never all in memory."""
    iterator = iter(entries)
    first = [json.dumps(_entry_as_dict(entry)) for entry in [next(iterator, None)] if entry]
    yield '{"entries": ['
    yield from first
    for entry in iterator:
        yield f", {json.dumps(_entry_as_dict(entry))}"
    yield "]}"


def _entry_as_dict(entry: IMAEntry) -> dict[str, Any]:
    measured = _measurement(entry)
    result: dict[str, Any] = {
        "number": entry.number,
        "pcr": entry.pcr,
        "template": display_name(entry.template),
        "template_hash": entry.template_hash.hex(),
        "has_its_hash": _has_its_hash(entry),
        "violation": entry.violation,
    }
    if isinstance(measured, str):
        return result | {"malformed": measured}
    result |= {
        "kind": measured.kind.value,
        "name": None if measured.name is None else display_name(measured.name),
        "digest": None if measured.digest is None else str(measured.digest),
    }
    key = measured_key(entry, measured)
    optional: dict[str, Any] = {
        "keyring": None if key is None else key.keyring,
        "signature": measured.signature.hex(),
        "buffer": measured.buffer.hex(),
        "modsig_digest": str(measured.modsig_digest or ""),
        "modsig": measured.modsig.hex(),
        "evm_signature": measured.evm_signature.hex(),
        "xattrs": {display_name(name): value.hex() for name, value in measured.xattrs},
    }
    numbers = {"uid": measured.uid, "gid": measured.gid, "mode": measured.mode}
    return (
        result
        | {key: value for key, value in optional.items() if value}
        | {key: value for key, value in numbers.items() if value is not None}
    )


def _state_as_dict(state: IMAState, ahead: int) -> dict[str, Any]:
    return {
        "pcr": IMA_PCR,
        "template_hash": state.template_hash.name.lower(),
        "banks": {bank.label: value.hex() for bank, value in state.pcrs.items()},
        "entries": state.entries,
        "bytes": state.offset,
        "ahead": ahead,
    }
