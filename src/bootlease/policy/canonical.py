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
from bootlease.policy.values import (
    MAX_LIST,
    POLICY_TYPE,
    Admission,
    EKAlgorithm,
    EnrolmentPolicy,
    LeasePolicy,
    Policy,
    QuotePolicy,
)

MAX_POLICY: Final = 1024 * 1024
_MAX_TEXT: Final = 512
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
            quote=QuotePolicy(
                banks=tuple(map(HashAlg, _items(fields, "banks", int))),
                pcrs=_items(fields, "pcrs", int),
                unsafe_clock=Effect(fields.text("unsafe_clock", at_most=_MAX_TEXT)),
            ),
            accept=_items(fields, "accept", str),
            lease=LeasePolicy(
                life=fields.unsigned("life"),
                scopes=_items(fields, "scopes", str),
                audiences=frozenset(_items(fields, "audiences", str)),
                max_leases=fields.unsigned("max_leases"),
            ),
            enrolment=EnrolmentPolicy(
                admit=Admission(fields.text("admit", at_most=_MAX_TEXT)),
                ek_algorithm=EKAlgorithm(fields.text("ek_algorithm", at_most=_MAX_TEXT)),
                allow_ek=frozenset(_items(fields, "allow_ek", bytes)),
                unsafe_unendorsed_ek=frozenset(_items(fields, "unsafe_unendorsed_ek", bytes)),
            ),
        )
    except ValueError as exc:
        raise MalformedError(f"policy: {exc}") from exc
    fields.end()
    # Sorted lists, nothing twice: otherwise one policy would have several encodings.
    if policy.encode() != data:
        raise MalformedError("the policy is not in its canonical form")
    return policy


def _items(fields: Fields, name: str, kind: type[_Item]) -> tuple[_Item, ...]:
    items: Sequence[Any] = fields.array(name, at_most=MAX_LIST)
    if any(type(item) is not kind for item in items):
        raise MalformedError(f"policy: {name} holds something of another type")
    return tuple(items)
