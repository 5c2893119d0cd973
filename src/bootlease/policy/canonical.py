"""The canonical form of a policy, read back: what its digest is taken over.

A decision names the digest of its policy. The file that an operator wrote may be laid out in many
ways under one digest; this form has one, so that a proof can carry it and every byte counts.

Layout: ``Policy.encode``. Deterministic CBOR (RFC 8949 §4.2.1), unordered lists sorted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence.fields import Fields
from bootlease.model import Effect, HashAlg
from bootlease.policy.authorization import Authorization
from bootlease.policy.boot import (
    MAX_IMA_SETS,
    MAX_PHASE_PATHS,
    NO_IMA,
    BootPolicy,
    IMAPolicy,
    Mode,
)
from bootlease.policy.cedartext import MAX_CEDAR
from bootlease.policy.enrolment import (
    Admission,
    CRLRule,
    EKAlgorithm,
    EnrolmentPolicy,
    make_patterns,
    vendor_ids,
)
from bootlease.policy.values import (
    MAX_LIST,
    POLICY_TYPE,
    LeasePolicy,
    Policy,
    QuotePolicy,
)
from bootlease.reference import IMASignatures

MAX_POLICY: Final = 1024 * 1024
_MAX_TEXT: Final = 512
_MAX_MEMBERS: Final = 16
_Item = TypeVar("_Item", bytes, int, str)


def parse_canonical_policy(data: bytes) -> Policy:
    """Parse ``Policy.encode``'s form into an unverified policy: who vouches for its digest?

    Raises:
        MalformedError: The bytes are not the canonical form of a policy.
    """
    fields = Fields(cbor.decode(data, max_bytes=MAX_POLICY), "policy")
    if fields.text("type", at_most=_MAX_TEXT) != POLICY_TYPE:
        raise MalformedError("the policy is not of a type that this version knows")
    try:
        policy = Policy(
            id=fields.text("id", at_most=_MAX_TEXT),
            mode=Mode(fields.text("mode", at_most=_MAX_TEXT)),
            quote=QuotePolicy(
                banks=tuple(map(HashAlg, _items(fields, "banks", int))),
                pcrs=_items(fields, "pcrs", int),
                unsafe_clock=Effect(fields.text("unsafe_clock", at_most=_MAX_TEXT)),
            ),
            accept=_items(fields, "accept", str),
            boot=_boot(fields),
            ima=_ima(fields),
            lease=LeasePolicy(
                life=fields.unsigned("life"),
                continuity=fields.unsigned("continuity"),
                audiences=frozenset(_items(fields, "audiences", str)),
                unsafe_bearer_audiences=frozenset(_items(fields, "unsafe_bearer_audiences", str)),
                delegation_depth=fields.unsigned("delegation_depth"),
                max_leases=fields.unsigned("max_leases"),
            ),
            authorization=Authorization(fields.text("cedar", at_most=MAX_CEDAR)),
            enrolment=_enrolment(fields),
        )
    except ValueError as exc:
        raise MalformedError(f"policy: {exc}") from exc
    fields.end()
    # Sorted lists, nothing twice: otherwise one policy would have several encodings.
    if policy.encode() != data:
        raise MalformedError("the policy is not in its canonical form")
    return policy


def _boot(policy: Fields) -> BootPolicy:
    fields = Fields(policy.map("boot", at_most=_MAX_MEMBERS), "the boot rules of the policy")
    boot = BootPolicy(
        secure_boot=fields.flag("secure_boot"),
        deployed_mode=fields.flag("deployed_mode"),
        exit_boot_services=fields.flag("exit_boot_services"),
        option_roms=_effect(fields, "option_roms"),
        unsafe_setup_mode=_effect(fields, "unsafe_setup_mode"),
        unsafe_test_keys=_effect(fields, "unsafe_test_keys"),
        unsafe_debug_mode=_effect(fields, "unsafe_debug_mode"),
        unsafe_dma=_effect(fields, "unsafe_dma"),
        unsafe_shim_validation=_effect(fields, "unsafe_shim_validation"),
        phases=_items(fields, "phases", str, at_most=MAX_PHASE_PATHS),
    )
    fields.end()
    return boot


def _ima(policy: Fields) -> IMAPolicy:
    if policy.null("ima"):
        return NO_IMA
    fields = Fields(policy.map("ima", at_most=_MAX_MEMBERS), "the IMA rules of the policy")
    ima = IMAPolicy(
        required=True,
        accept=_items(fields, "accept", str, at_most=MAX_IMA_SETS),
        unlisted=_effect(fields, "unlisted"),
        violations=_effect(fields, "violations"),
        signatures=IMASignatures(fields.text("signatures", at_most=_MAX_TEXT)),
    )
    fields.end()
    return ima


def _enrolment(fields: Fields) -> EnrolmentPolicy:
    software = "unsafe_software_tpm"
    return EnrolmentPolicy(
        admit=Admission(fields.text("admit", at_most=_MAX_TEXT)),
        ek_algorithm=EKAlgorithm(fields.text("ek_algorithm", at_most=_MAX_TEXT)),
        allow_ek=frozenset(_items(fields, "allow_ek", bytes)),
        vendors=vendor_ids(_items(fields, "vendors", str)),
        refuse_firmware=make_patterns(_items(fields, "refuse_firmware", str), "refuse_firmware"),
        crl=CRLRule(fields.text("crl", at_most=_MAX_TEXT)),
        unsafe_unendorsed_ek=frozenset(_items(fields, "unsafe_unendorsed_ek", bytes)),
        unsafe_software_tpm=make_patterns(_items(fields, software, str), software),
        unsafe_sha1_signatures=fields.flag("unsafe_sha1_signatures"),
    )


def _effect(fields: Fields, name: str) -> Effect:
    return Effect(fields.text(name, at_most=_MAX_TEXT))


def _items(
    fields: Fields, name: str, kind: type[_Item], *, at_most: int = MAX_LIST
) -> tuple[_Item, ...]:
    items: Sequence[Any] = fields.array(name, at_most=at_most)
    if any(type(item) is not kind for item in items):
        raise MalformedError(f"policy: {name} holds something of another type")
    return tuple(items)
