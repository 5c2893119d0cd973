"""Reference sets of every kind, told apart by what they say of themselves.

A file without ``kind`` is about a boot, one of kind ``ima`` about what a system loaded. Names are
one space for all kinds; a policy says by which of its lists it accepts a set.
"""

from __future__ import annotations

import re
from typing import Final

from bootlease import cbor
from bootlease.reference.canonical import parse_canonical_reference
from bootlease.reference.file import MAX_FILE, parse_reference, serialise_reference
from bootlease.reference.imacanonical import parse_canonical_ima_reference
from bootlease.reference.imafile import (
    IMA_KIND,
    MAX_IMA_FILE,
    parse_ima_reference,
    serialise_ima_reference,
)
from bootlease.reference.imaset import IMA_REFERENCE_TYPE, IMAReferenceSet
from bootlease.reference.values import ReferenceSet

AnyReference = ReferenceSet | IMAReferenceSet
"""A reference set of any kind."""

MAX_ANY_FILE: Final = max(MAX_FILE, MAX_IMA_FILE)
_KIND: Final = re.compile(rb'"kind"\s*:\s*"ima"')
_CANONICAL_KIND: Final = cbor.encode("type") + cbor.encode(IMA_REFERENCE_TYPE)
_TYPE_WITHIN: Final = 192


def parse_any_reference(data: bytes) -> AnyReference:
    """Parse a reference file of any kind into an unverified set.

    Raises:
        MalformedError: The bytes are no reference file.
    """
    # Only a guess which of two strict parsers to ask, so that no file is decoded twice. Wherever
    # the words stand, what the parser then demands of ``kind`` is what counts.
    if _KIND.search(data):
        return parse_ima_reference(data)
    return parse_reference(data)


def serialise_any_reference(reference: AnyReference) -> bytes:
    """Return the file form of a set of any kind."""
    if isinstance(reference, IMAReferenceSet):
        return serialise_ima_reference(reference)
    return serialise_reference(reference)


def parse_any_canonical_reference(data: bytes) -> AnyReference:
    """Parse the canonical form of a set of any kind: what its digest is taken over.

    Raises:
        MalformedError: The bytes are that of none.
    """
    # As above; only validity and name stand before the type, and no text has its head in it.
    if _CANONICAL_KIND in data[:_TYPE_WITHIN]:
        return parse_canonical_ima_reference(data)
    return parse_canonical_reference(data)


def kind_of(reference: AnyReference) -> str:
    """Return what a set is about: ``boot`` or ``ima``."""
    return IMA_KIND if isinstance(reference, IMAReferenceSet) else "boot"
