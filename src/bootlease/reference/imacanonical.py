"""The canonical form of a set of files that a node may load, read back.

Layout: ``IMAReferenceSet.encode``. Deterministic CBOR (RFC 8949 §4.2.1), whatever has no order
sorted, so that one set has one encoding and every byte of it counts.
"""

from __future__ import annotations

from typing import Any, Final

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.evidence.fields import Fields
from bootlease.ima.entry import DigestType, IMADigest
from bootlease.reference.imaset import (
    IMA_REFERENCE_TYPE,
    MAX_DIGESTS,
    MAX_FILES,
    MAX_RULES,
    MAX_SIGNERS,
    IMAReferenceSet,
    Origin,
    Scope,
    ScopeKind,
    SignerRule,
)

MAX_IMA_REFERENCE: Final = 256 * 1024 * 1024
_MAX_TEXT: Final = 64
_MAX_ITEMS: Final = 8 * MAX_FILES
_TYPES: Final = {kind.value: kind for kind in DigestType}


def parse_canonical_ima_reference(data: bytes) -> IMAReferenceSet:
    """Parse ``IMAReferenceSet.encode``'s form into an unverified set: who vouches for its digest?

    Raises:
        MalformedError: The bytes are not the canonical form of an IMA reference set.
    """
    if len(data) <= MAX_IMA_REFERENCE:
        cbor.demand_few(data, at_most=_MAX_ITEMS)
    fields = Fields(cbor.decode(data, max_bytes=MAX_IMA_REFERENCE), "IMA reference")
    if fields.text("type", at_most=_MAX_TEXT) != IMA_REFERENCE_TYPE:
        raise MalformedError("the IMA reference set is not of a type that this version knows")
    signed = fields.array("signed", at_most=MAX_RULES)
    exclude = fields.array("unsafe_exclude", at_most=MAX_RULES)
    below = fields.array("content_below", at_most=MAX_RULES)
    try:
        reference = IMAReferenceSet(
            name=fields.text("name", at_most=_MAX_TEXT),
            version=fields.text("version", at_most=_MAX_TEXT),
            origin=Origin(fields.text("origin", at_most=_MAX_TEXT)),
            files=_listed(fields.array("files", at_most=MAX_FILES)),
            buffers=_listed(fields.array("buffers", at_most=MAX_FILES)),
            content_below=tuple(_of(bytes, path) for path in below),
            signers={
                _of(str, name): _of(bytes, key)
                for name, key in fields.map("signers", at_most=MAX_SIGNERS).items()
            },
            signed=tuple(map(_signer_rule, signed)),
            unsafe_exclude=tuple(map(_scope, exclude)),
            not_before=fields.unsigned("nbf") if fields.has("nbf") else None,
            not_after=fields.unsigned("exp") if fields.has("exp") else None,
        )
    except ValueError as exc:
        raise MalformedError(f"IMA reference: {exc}") from exc
    fields.end()
    if reference.encode() != data:
        raise MalformedError("the IMA reference set is not in its canonical form")
    return reference


def _of(kind: type, value: Any) -> Any:  # noqa: ANN401 - CBOR is dynamic
    if type(value) is not kind:
        raise MalformedError("IMA reference: a member is of another type than it must be")
    return value


def _listed(items: tuple[Any, ...]) -> dict[bytes, tuple[IMADigest, ...]]:
    listed: dict[bytes, tuple[IMADigest, ...]] = {}
    for item in items:
        match item:
            case [bytes() as path, list() as digests] if len(digests) <= MAX_DIGESTS:
                if path in listed:
                    raise MalformedError("IMA reference: a path is listed twice")
                listed[path] = tuple(map(_digest, digests))
            case _:
                raise MalformedError("IMA reference: a path is not [path, digests]")
    return listed


def _digest(value: object) -> IMADigest:
    match value:
        case [str() as kind, str() as alg, bytes() as digest] if kind in _TYPES:
            return IMADigest(_TYPES[kind], alg, digest)
    raise MalformedError("IMA reference: a digest is not [type, algorithm, digest]")


def _scope(value: object) -> Scope:
    match value:
        case [str() as kind, bytes() as path]:
            return Scope(ScopeKind(kind), path)
    raise MalformedError("IMA reference: a scope is not [kind, path]")


def _signer_rule(value: object) -> SignerRule:
    match value:
        case [kind, path, list() as signers] if len(signers) <= MAX_SIGNERS:
            return SignerRule(_scope([kind, path]), tuple(_of(str, name) for name in signers))
    raise MalformedError("IMA reference: a rule for signed files is not [kind, path, signers]")
