"""``bootlease quote``: checking a TPM quote by hand.

Exit codes: 0 the quote is accepted, 1 it is refused, 2 a file or option has not its form.
A TPMS_ATTEST, TPMT_SIGNATURE or public area that is cut short, followed by more bytes or
otherwise no such structure is malformed, even under a good signature: 2. One that is well
formed and says the wrong thing (no TPM_GENERATED, another type, another challenge, other
PCRs) is refused: 1.
"""

from __future__ import annotations

import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from bootlease.appraisal.quote import check_clock, check_selection, check_signer, note_oddities
from bootlease.cli.exits import ExitCode
from bootlease.cli.pcr_selection import pcr_index
from bootlease.cli.quote_options import Content, Hex, Parent, Required, RequiredPCRs
from bootlease.errors import MalformedError, VerificationError
from bootlease.model import Effect, Finding, HashAlg, PCRValues, refusals
from bootlease.tpm import (
    TPMRH,
    AttestationKey,
    TPMSQuoteInfo,
    TPMSSignatureECC,
    TPMTSignature,
    UnsafeBareKey,
    VerifiedQuote,
    accept_attestation_key,
    parse_attest,
    parse_header,
    parse_public_either,
    parse_signature,
    unsafe_bare_key,
    verify_quote,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_PEM_MARK: Final = b"-----BEGIN "


_T = TypeVar("_T")


class _MalformedInputError(MalformedError):
    """One of the inputs has not its form; says which."""

    def __init__(self, part: str, cause: MalformedError) -> None:
        super().__init__(f"{part}: {cause}")
        self.finding = Finding(f"quote.{part}.malformed", f"The {part} is malformed: {cause}.")


def _parsed(part: str, parse: Callable[[bytes], _T], data: bytes) -> _T:
    try:
        return parse(data)
    except MalformedError as exc:
        raise _MalformedInputError(part, exc) from exc


@dataclass(frozen=True, slots=True)
class _Inputs:
    """What is to be checked, and against what."""

    attest: bytes
    signature: bytes
    ak: bytes
    nonce: bytes
    pcrs: bytes
    required: Required
    min_reset_count: int
    parent: TPMRH | bytes | None


@dataclass(frozen=True, slots=True)
class _Report:
    """The outcome; ``quote`` only if its proof was good."""

    findings: tuple[Finding, ...]
    quote: VerifiedQuote | None = None
    malformed: bool = False

    @property
    def verdict(self) -> str:
        if self.malformed:
            return "malformed"
        return "accepted" if self.quote and not refusals(self.findings) else "refused"

    def as_dict(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "verdict": self.verdict,
            "findings": [finding.as_dict() for finding in self.findings],
        }
        if self.quote is not None:
            result["quote"] = _quote_as_dict(self.quote)
        return result


@click.group(name="quote")
def quote() -> None:
    """Check TPM quotes."""


@quote.command(name="verify")
@click.option("--attest", required=True, type=Content(), help="TPMS_ATTEST, raw.")
@click.option("--signature", required=True, type=Content(), help="TPMT_SIGNATURE, raw.")
@click.option(
    "--ak",
    required=True,
    type=Content(),
    help="Attestation key: TPMT_PUBLIC or TPM2B_PUBLIC, raw; or PEM, which proves no attributes.",
)
@click.option("--nonce", required=True, type=Hex(), help="The exact qualifying data, in hex.")
@click.option(
    "--pcrs", required=True, type=Content(), help='PCR values as {"sha256": {"0": "<hex>", ...}}.'
)
@click.option(
    "--require",
    required=True,
    type=RequiredPCRs(),
    help="PCRs that must be quoted: sha256:0-7,14; several banks joined with +.",
)
@click.option(
    "--min-reset-count",
    type=click.IntRange(0, 0xFFFFFFFF),
    default=0,
    show_default=True,
    help="Refuse a TPM that has counted fewer resets.",
)
@click.option(
    "--parent",
    type=Parent(),
    help="Compare the qualified signer with the key's name under this parent: endorsement, owner,"
    " platform, null, a handle in hex, or a file with the parent's qualified name.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(
    *,
    attest: bytes,
    signature: bytes,
    ak: bytes,
    nonce: bytes,
    pcrs: bytes,
    require: Required,
    min_reset_count: int,
    parent: TPMRH | bytes | None,
    as_json: bool,
) -> None:
    """Verify a quote against key, challenge and PCR values.

    Checks signature, challenge, PCR values, coverage and reset counter. Exits with 0 if the quote
    is accepted, 1 if it is refused, 2 if an input is malformed; with --json a report stands on
    standard output in all three cases.
    """
    inputs = _Inputs(
        attest=attest,
        signature=signature,
        ak=ak,
        nonce=nonce,
        pcrs=pcrs,
        required=require,
        min_reset_count=min_reset_count,
        parent=parent,
    )
    try:
        report = _examine(inputs)
    except _MalformedInputError as exc:
        # People read of it on standard error, once; programs get a report whatever came in.
        if as_json:
            _show(_Report((exc.finding,), malformed=True), as_json=True)
        raise
    _show(report, as_json=as_json)
    if report.verdict != "accepted":
        click.get_current_context().exit(ExitCode.REFUSED)


def _examine(inputs: _Inputs) -> _Report:
    pcrs = _parsed("pcrs", _parse_pcrs, inputs.pcrs)
    attest = _parsed("attest", parse_header, inputs.attest)
    signature = _parsed("signature", parse_signature, inputs.signature)
    findings: list[Finding] = []
    try:
        key = _key(inputs, signature, findings)
    except VerificationError as exc:
        return _Report(exc.findings)
    verified = None
    selection: VerifiedQuote | TPMSQuoteInfo | None
    try:
        verified = _verify(inputs, key, pcrs)
        selection = verified
    except VerificationError as exc:
        findings += exc.findings
        selection = _unverified_selection(inputs.attest)
    # On a refused quote these explain more; they cannot make it any better.
    if selection is not None:
        findings += check_selection(selection, inputs.required)
    findings += check_clock(None, attest.clock_info, inputs.min_reset_count, unsafe=Effect.NOTES)
    findings += _note_padding(signature, key)
    if verified is not None:
        findings += note_oddities(verified)
        if inputs.parent is not None and isinstance(key, AttestationKey):
            findings += check_signer(verified, key.public.qualified_name(inputs.parent))
    return _Report(tuple(findings), verified)


def _verify(inputs: _Inputs, key: AttestationKey | UnsafeBareKey, pcrs: PCRValues) -> VerifiedQuote:
    try:
        return verify_quote(inputs.attest, inputs.signature, key, inputs.nonce, pcrs)
    except MalformedError as exc:
        raise _MalformedInputError("attest", exc) from exc


def _unverified_selection(attest: bytes) -> TPMSQuoteInfo | None:
    """Return what a refused quote says it covers, if it says anything."""
    try:
        body = parse_attest(attest).attested
    except MalformedError:
        return None
    return body if isinstance(body, TPMSQuoteInfo) else None


def _key(
    inputs: _Inputs, signature: TPMTSignature, findings: list[Finding]
) -> AttestationKey | UnsafeBareKey:
    if not inputs.ak.startswith(_PEM_MARK):
        return accept_attestation_key(_parsed("ak", parse_public_either, inputs.ak))
    if inputs.parent is not None:
        raise click.UsageError("--parent needs the key's TPMT_PUBLIC: a PEM key has no name")
    findings.append(
        Finding(
            "ak.attributes.unproven",
            "The key came as PEM: nothing shows that a TPM holds it or restricts what it signs.",
            effect=Effect.NOTES,
        )
    )
    return unsafe_bare_key(_parsed("ak", _parse_pem, inputs.ak), signature)


def _note_padding(
    signature: TPMTSignature, key: AttestationKey | UnsafeBareKey
) -> tuple[Finding, ...]:
    """Tell of an ECDSA signature that no TPM spells this way, though it may well verify."""
    body = signature.body
    size = (key.verification.key.key_size + 7) // 8
    if isinstance(body, TPMSSignatureECC) and max(len(body.r), len(body.s)) > size:
        return (
            Finding(
                "quote.signature.padded",
                "The ECDSA signature is padded with leading zeros beyond the size of its curve.",
                effect=Effect.NOTES,
            ),
        )
    return ()


def _parse_pem(data: bytes) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise MalformedError("not a PEM public key") from exc
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise MalformedError("neither an RSA nor an elliptic curve key")
    return key


def _parse_pcrs(data: bytes) -> PCRValues:
    try:
        banks = json.loads(data, object_pairs_hook=_object)
    except (ValueError, RecursionError) as exc:
        raise MalformedError(f"not JSON of the form wanted: {exc}") from exc
    if not isinstance(banks, dict):
        raise MalformedError("not a JSON object")
    return {_bank(label): _bank_values(label, values) for label, values in banks.items()}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a member appears twice")
    return result


def _bank(label: str) -> HashAlg:
    try:
        return HashAlg.from_label(label)
    except ValueError as exc:
        raise MalformedError(str(exc)) from exc


def _bank_values(label: str, values: object) -> dict[int, bytes]:
    if not isinstance(values, dict):
        raise MalformedError(f"bank {label} is not a JSON object")
    result = {}
    for text, value in values.items():
        index = pcr_index(text)
        if index is None:
            raise MalformedError(f"{text!r} in bank {label} is not a PCR from 0 to 23")
        try:
            result[index] = binascii.unhexlify(value)
        except (binascii.Error, TypeError, ValueError) as exc:
            raise MalformedError(f"PCR {index} in bank {label} is not hex") from exc
    return result


def _quote_as_dict(quote: VerifiedQuote) -> dict[str, Any]:
    clock = quote.clock_info
    return {
        "qualified_signer": quote.qualified_signer.hex(),
        "firmware_version": f"{quote.firmware_version:016x}",
        "clock": clock.clock,
        "reset_count": clock.reset_count,
        "restart_count": clock.restart_count,
        "safe": clock.safe,
        "pcr_digest": quote.pcr_digest.hex(),
        "pcrs": {
            bank.label: {str(pcr): value.hex() for pcr, value in values.items()}
            for bank, values in quote.pcrs.items()
        },
    }


def _show(report: _Report, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
        return
    click.echo(report.verdict)
    for finding in report.findings:
        click.echo(f"  {finding.effect.value:<7}  {finding.id}  {finding.message}")
        if finding.expected is not None or finding.seen is not None:
            click.echo(f"{'':11}expected {finding.expected}, seen {finding.seen}")
    if report.quote is None:
        return
    shown = _quote_as_dict(report.quote)
    banks = shown.pop("pcrs")
    for name, value in shown.items():
        click.echo(f"  {name.replace('_', ' ')}: {value}")
    for label, values in banks.items():
        for pcr, value in values.items():
            click.echo(f"  {label}:{pcr:<2}  {value}")
