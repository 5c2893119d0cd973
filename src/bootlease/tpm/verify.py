"""Verification of quotes and key certifications.

Specifications: TPM 2.0 Library part 3 §18.4 (TPM2_Quote), §18.2 (TPM2_Certify); part 1
§32 (attestation). Attack numbers are those of the project's attack tests.

The steps of a quote, each labelled in the code:

1. structure: the bytes are one TPMS_ATTEST and one TPMT_SIGNATURE, nothing more;
2. signature: under the key's own scheme and hash;
3. magic and type: a TPM made it, and it is a quote;
4. qualifying data: equal, whole, compared in constant time;
5. selection: PCRs of a PC client TPM, each bank once, at least one PCR;
6. values: one of the right size for every selected PCR; none but those is kept;
7. pcrDigest: over the values in the order of the selection, under the hash of the
   signature scheme, compared whole.

Not handled on purpose: time, creation, NV and audit attestations. They are refused by
name, so that one key's other statements cannot pass for these (A26).
"""

from __future__ import annotations

import functools
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bootlease.errors import VerificationError
from bootlease.frozen import quick_init
from bootlease.model import PCR_COUNT, ClockInfo, Finding, FixedPCRValues, HashAlg, PCRValues
from bootlease.tpm.algorithms import TPM_GENERATED, TPMST, attest_name, hash_name
from bootlease.tpm.attest import PCRSelection, read_certify_info, read_header, read_quote
from bootlease.tpm.schemes import HASHERS
from bootlease.tpm.signature import parse_signature
from bootlease.tpm.wire import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bootlease.tpm.keys import AttestationKey, UnsafeBareKey
    from bootlease.tpm.public import TPMTPublic

_QUOTE: Final = int(TPMST.ATTEST_QUOTE)
_CERTIFY: Final = int(TPMST.ATTEST_CERTIFY)
_MIN_SIZE_OF_SELECT: Final = 3
"""PCR_SELECT_MIN of a PC client TPM: it refuses, so never signs, less (A20)."""
_LAST_PCR: Final = PCR_COUNT - 1


@quick_init
@dataclass(frozen=True, slots=True)
class VerifiedQuote:
    """What a TPM said of its PCRs, in answer to one challenge.

    Attributes:
        clock_info: Clock and reset counters at the time of the quote.
        firmware_version: The TPM's firmware version.
        qualified_signer: Qualified name of the signing key, as the TPM stated it.
        extra_data: The qualifying data that was demanded.
        selections: The signed selection, in its order.
        pcrs: Values of the quoted PCRs, and of no others.
        pcr_digest: The attested digest over them.
    """

    clock_info: ClockInfo
    firmware_version: int
    qualified_signer: bytes
    extra_data: bytes
    selections: tuple[PCRSelection, ...]
    pcrs: Mapping[HashAlg, Mapping[int, bytes]]
    pcr_digest: bytes


@dataclass(frozen=True, slots=True)
class VerifiedCertification:
    """What a TPM said of a key that is loaded in it.

    Attributes:
        public: The certified public area.
        name: Its name.
        qualified_name: Its qualified name, as the TPM stated it.
        qualified_signer: Qualified name of the signing key, as the TPM stated it.
        clock_info: Clock and reset counters at the time of the certification.
        firmware_version: The TPM's firmware version.
        extra_data: The qualifying data that was demanded.
    """

    public: TPMTPublic
    name: bytes
    qualified_name: bytes
    qualified_signer: bytes
    clock_info: ClockInfo
    firmware_version: int
    extra_data: bytes


def verify_quote(
    attest: bytes,
    signature: bytes,
    key: AttestationKey | UnsafeBareKey,
    qualifying_data: bytes,
    pcrs: PCRValues,
) -> VerifiedQuote:
    """Verify a quote and the PCR values that came with it.

    Proves, if the key is one that a genuine TPM holds: that TPM had these values in the
    selected PCRs when it answered this challenge, and its counters stood as stated. Does
    not prove which TPM (credential activation does), that the quoted PCRs are those that
    matter, or that anybody extended them honestly. The caller must still demand the PCRs
    and banks that policy wants (``check_selection``), watch the counters (``check_clock``)
    and the qualified signer (``check_signer``), replay the event log against ``pcrs``, and
    see to it that the challenge was random, unused and its own.

    Args:
        attest: TPMS_ATTEST, untrusted.
        signature: TPMT_SIGNATURE, untrusted.
        key: The key that must have signed.
        qualifying_data: The exact bytes that extraData must hold.
        pcrs: Values that came with the quote, untrusted; values not quoted are dropped.

    Returns:
        The verified quote.

    Raises:
        MalformedError: ``attest`` or ``signature`` has not its structure.
        VerificationError: Some check failed; all that could be checked are told.
    """
    # 1. structure
    magic, kind, signer, extra_data, clock, firmware, selections, pcr_digest = read_quote(attest)
    parsed_signature = parse_signature(signature)
    # 2. signature
    verification = key.verification
    found = list(verification.check(parsed_signature, attest, "quote"))
    # 3. magic and type
    if selections is None:
        found.append(_kind_finding(magic, kind, _QUOTE, "quote"))
    # 4. qualifying data
    if not hmac.compare_digest(extra_data, qualifying_data):
        found.append(_nonce_finding(qualifying_data, extra_data, "quote"))
    if selections is None:
        raise VerificationError(*found)
    # 5. selection and 6. values
    covered = _cover(selections, pcrs, verification.hash_alg)
    found += covered.findings
    # 7. pcrDigest
    digest = covered.digest
    if digest is not None and not hmac.compare_digest(digest, pcr_digest):
        found.append(
            Finding(
                "quote.pcr-digest.mismatch",
                "The PCR values are not those that the TPM quoted.",
                expected=pcr_digest.hex(),
                seen=digest.hex(),
            )
        )
    if found:
        raise VerificationError(*found)
    return VerifiedQuote(
        clock, firmware, signer, extra_data, selections, covered.quoted, pcr_digest
    )


def verify_certification(
    attest: bytes,
    signature: bytes,
    key: AttestationKey | UnsafeBareKey,
    qualifying_data: bytes,
    public: TPMTPublic,
) -> VerifiedCertification:
    """Verify TPM2_Certify's statement that a key is loaded in the signer's TPM.

    Proves, if the signing key is one that a genuine TPM holds: an object with exactly this
    public area was in that TPM when it answered. Does not prove that the object's
    attributes are good for anything: the caller must still accept ``public``
    (``accept_bound_key``) and see to the challenge.

    Args:
        attest: TPMS_ATTEST, untrusted.
        signature: TPMT_SIGNATURE, untrusted.
        key: The key that must have signed.
        qualifying_data: The exact bytes that extraData must hold.
        public: The public area that is said to be certified, untrusted.

    Returns:
        The verified certification.

    Raises:
        MalformedError: ``attest`` or ``signature`` has not its structure, or the public
            area is named by an unknown hash.
        VerificationError: Some check failed; all that could be checked are told.
    """
    reader = Reader(attest)
    magic, kind, signer, extra_data, clock, firmware = read_header(reader)
    well_typed = magic == TPM_GENERATED and kind == _CERTIFY
    info = read_certify_info(reader) if well_typed else None
    found = list(key.verification.check(parse_signature(signature), attest, "certify"))
    if not hmac.compare_digest(extra_data, qualifying_data):
        found.append(_nonce_finding(qualifying_data, extra_data, "certify"))
    if info is None:
        raise VerificationError(*found, _kind_finding(magic, kind, _CERTIFY, "certify"))
    name = public.name
    # The name is recomputed from the public area: a name taken on trust names anything (B4).
    if not hmac.compare_digest(info.name, name):
        found.append(
            Finding(
                "certify.name.mismatch",
                "The TPM certified another key than the one presented.",
                expected=name.hex(),
                seen=info.name.hex(),
            )
        )
    if found:
        raise VerificationError(*found)
    return VerifiedCertification(
        public, name, info.qualified_name, signer, clock, firmware, extra_data
    )


def _kind_finding(magic: int, kind: int, wanted: int, subject: str) -> Finding:
    if magic != TPM_GENERATED:
        # Without it, the key may have signed bytes that somebody handed to the TPM (A1).
        return Finding(
            f"{subject}.magic.wrong",
            "The signed bytes were not made by a TPM: TPM_GENERATED is missing.",
            expected=f"{TPM_GENERATED:08x}",
            seen=f"{magic:08x}",
        )
    return Finding(
        f"{subject}.type.wrong",
        f"The TPM attested something else: {attest_name(kind)}, not {attest_name(wanted)}.",
        expected=attest_name(wanted),
        seen=attest_name(kind),
    )


def _nonce_finding(wanted: bytes, seen: bytes, subject: str) -> Finding:
    return Finding(
        f"{subject}.nonce.mismatch",
        "The qualifying data answers another challenge than the one given.",
        expected=wanted.hex(),
        seen=seen.hex(),
    )


@dataclass(frozen=True, slots=True)
class _Covered:
    """What a selection takes out of the values that came along.

    Attributes:
        findings: What is wrong with selection and values.
        quoted: The values that the selection names.
        digest: Over them in their order; ``None`` where one is missing or has another size.
    """

    findings: tuple[Finding, ...]
    quoted: Mapping[HashAlg, Mapping[int, bytes]]
    digest: bytes | None


def _cover(selections: tuple[PCRSelection, ...], pcrs: PCRValues, hash_alg: HashAlg) -> _Covered:
    # A node's renewals present the same values: what follows from these alone is kept.
    if type(pcrs) is FixedPCRValues:
        return _cover_fixed(selections, pcrs, hash_alg)
    return _cover_any(selections, pcrs, hash_alg)


def _cover_any(
    selections: tuple[PCRSelection, ...], pcrs: PCRValues, hash_alg: HashAlg
) -> _Covered:
    found = _selection_findings(selections)
    quoted: dict[HashAlg, Mapping[int, bytes]] = {}
    values: list[bytes] = []
    digest: bytes | None = None
    problems = []
    for selection in selections:
        problems += _take_values(selection, pcrs, quoted, values)
    if not problems:
        digest = HASHERS[hash_alg](b"".join(values)).digest()
    return _Covered((*found, *problems), quoted, digest)


@functools.lru_cache(maxsize=4096)
def _cover_fixed(
    selections: tuple[PCRSelection, ...], pcrs: FixedPCRValues, hash_alg: HashAlg
) -> _Covered:
    covered = _cover_any(selections, pcrs, hash_alg)
    # Nearly always what came is what was quoted, in its order, and need not be made again.
    whole = len(pcrs) == len(covered.quoted)
    if whole and all(values is pcrs.get(alg) for alg, values in covered.quoted.items()):
        return _Covered(covered.findings, pcrs, covered.digest)
    return _Covered(covered.findings, FixedPCRValues(covered.quoted), covered.digest)


def _selection_findings(selections: tuple[PCRSelection, ...]) -> list[Finding]:
    found = []
    seen: list[int] = []
    selected = 0
    for selection in selections:
        pcrs = selection.pcrs
        selected += len(pcrs)
        if selection.alg in seen:
            found.append(
                Finding(
                    "quote.selection.bank-twice",
                    f"The quote lists bank {hash_name(selection.alg)} twice.",
                )
            )
        seen.append(selection.alg)
        if selection.size_of_select < _MIN_SIZE_OF_SELECT:
            found.append(
                Finding(
                    "quote.selection.size",
                    "The PCR bit map is shorter than any PC client TPM writes it.",
                    expected=f"at least {_MIN_SIZE_OF_SELECT}",
                    seen=str(selection.size_of_select),
                )
            )
        if pcrs and pcrs[-1] > _LAST_PCR:
            found.append(
                Finding(
                    "quote.selection.pcr-range",
                    f"The quote selects PCR {pcrs[-1]}, which a PC client TPM does not have.",
                    pcr=pcrs[-1],
                )
            )
    if not selected:
        found.append(Finding("quote.selection.empty", "The quote covers no PCR at all."))
    return found


def _take_values(
    selection: PCRSelection,
    pcrs: PCRValues,
    quoted: dict[HashAlg, Mapping[int, bytes]],
    values: list[bytes],
) -> list[Finding]:
    alg = selection.alg
    if not isinstance(alg, HashAlg):
        return [
            Finding(
                "quote.bank.unknown",
                f"The quote covers a bank of an unknown algorithm, {hash_name(alg)}.",
            )
        ]
    given = pcrs.get(alg, {})
    size = alg.size
    bank = given
    if tuple(given) != selection.pcrs:  # nearly always just what was quoted comes, in its order
        bank = {pcr: given[pcr] for pcr in selection.pcrs if pcr in given}
    quoted[alg] = bank
    values += bank.values()
    if len(bank) == len(selection.pcrs) and {*map(len, bank.values())} <= {size}:
        return []
    return [
        _value_finding(alg, pcr, given.get(pcr))
        for pcr in selection.pcrs
        if pcr not in bank or len(bank[pcr]) != size
    ]


def _value_finding(alg: HashAlg, pcr: int, value: bytes | None) -> Finding:
    if value is None:
        return Finding(
            "quote.pcr.value-missing",
            f"The value of PCR {pcr} ({alg.label}) was quoted but not presented.",
            pcr=pcr,
        )
    # Only the concatenation is attested: sizes that differ would let values shift.
    return Finding(
        "quote.pcr.value-size",
        f"The value of PCR {pcr} has not the size of a {alg.label} digest.",
        pcr=pcr,
        expected=str(alg.size),
        seen=str(len(value)),
    )
