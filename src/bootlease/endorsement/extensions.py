"""The certificate extensions that decide whether a chain endorses a TPM.

Specifications: RFC 5280 §4.2.1; TCG EK Credential Profile for TPM Family 2.0 §3 (subject
alternative name with the TPM's make, subject directory attributes with its specification, extended
key usage); TCG OID registry 2.23.133.

An extension that is not critical and not in this module is skipped, as RFC 5280 §4.2 allows. Name
constraints are not processed on purpose: a CA that has them is refused.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bootlease.endorsement import der
from bootlease.endorsement.der import Reader
from bootlease.endorsement.make import TPMIdentity
from bootlease.endorsement.names import attributes
from bootlease.endorsement.tolerance import Tolerance
from bootlease.errors import MalformedError

SUBJECT_DIRECTORY_ATTRIBUTES: Final = "2.5.29.9"
KEY_USAGE: Final = "2.5.29.15"
SUBJECT_ALTERNATIVE_NAME: Final = "2.5.29.17"
BASIC_CONSTRAINTS: Final = "2.5.29.19"
CRL_NUMBER: Final = "2.5.29.20"
NAME_CONSTRAINTS: Final = "2.5.29.30"
CERTIFICATE_POLICIES: Final = "2.5.29.32"
EXTENDED_KEY_USAGE: Final = "2.5.29.37"

_MANUFACTURER: Final = "2.23.133.2.1"
_MODEL: Final = "2.23.133.2.2"
_VERSION: Final = "2.23.133.2.3"
_SPECIFICATION: Final = "2.23.133.2.16"
_DIRECTORY_NAME: Final = 0xA4
_MAX_EXTENSIONS: Final = 64
_MAX_ATTRIBUTE: Final = 128
_MAX_PURPOSES: Final = 64
_MAX_NAMES: Final = 64
_MAX_PATH_LENGTH: Final = 255


class KeyUsage(enum.IntFlag):
    """The named bits of RFC 5280 §4.2.1.3 that matter here."""

    DIGITAL_SIGNATURE = 1 << 0
    KEY_ENCIPHERMENT = 1 << 2
    KEY_AGREEMENT = 1 << 4
    KEY_CERT_SIGN = 1 << 5
    CRL_SIGN = 1 << 6


@dataclass(frozen=True, slots=True)
class Extensions:
    """What a certificate's extensions say.

    Attributes:
        ca: It may issue certificates.
        path_length: CAs that may follow below it; ``None`` where nothing limits them.
        key_usage: What the key may be used for; ``None`` where nothing is said.
        extended_key_usage: Purposes, dotted; ``None`` where nothing is said.
        identity: The TPM's make; ``None`` where not all of it is stated.
        family: Family of the TPM's specification, such as ``2.0``; ``None`` where not stated.
        name_constraints: It limits the names below it.
        not_understood: Critical extensions that are not processed here.
    """

    ca: bool = False
    path_length: int | None = None
    key_usage: KeyUsage | None = None
    extended_key_usage: frozenset[str] | None = None
    identity: TPMIdentity | None = None
    family: str | None = None
    name_constraints: bool = False
    not_understood: frozenset[str] = frozenset()


def parse_extensions(reader: Reader, tolerated: set[Tolerance]) -> Extensions:
    """Parse the extensions of a certificate.

    Raises:
        MalformedError: They are none, one is there twice, or one of those read here is malformed.
    """
    raw = raw_extensions(reader, "the extensions")
    ca, path_length = _basic_constraints(raw)
    identity, all_names_known = _subject_alternative_name(raw, tolerated)
    # A critical statement of policies constrains nothing where none is asked for (RFC 5280
    # §6.1.1 (c), any-policy): STM's and Infineon's CAs have one.
    understood = {BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE, CERTIFICATE_POLICIES}
    if all_names_known:
        understood.add(SUBJECT_ALTERNATIVE_NAME)
    return Extensions(
        ca=ca,
        path_length=path_length,
        key_usage=_key_usage(raw),
        extended_key_usage=_extended_key_usage(raw),
        identity=identity,
        family=_family(raw),
        name_constraints=NAME_CONSTRAINTS in raw,
        not_understood=frozenset(
            oid for oid, (critical, _) in raw.items() if critical and oid not in understood
        ),
    )


def raw_extensions(reader: Reader, what: str) -> Mapping[str, tuple[bool, bytes]]:
    """Parse a SEQUENCE OF Extension into criticality and value by object identifier."""
    found: dict[str, tuple[bool, bytes]] = {}
    for each in reader.rest(what):
        if each.tag != der.SEQUENCE:
            raise MalformedError(f"{what} hold something else")
        inner = each.inside()
        oid = der.object_identifier(inner.take(der.OID, what), what)
        flag = inner.optional(der.BOOLEAN, what)
        critical = flag is not None and der.boolean(flag, what)
        value = inner.take(der.OCTET_STRING, what).value
        inner.finish(what)
        # RFC 5280 §4.2: which of two would count is the reader's choice, so neither does.
        if oid in found:
            raise MalformedError(f"{what} have {oid} twice")
        found[oid] = critical, value
        if len(found) > _MAX_EXTENSIONS:
            raise MalformedError(f"{what} are more than {_MAX_EXTENSIONS}")
    return found


def _basic_constraints(raw: Mapping[str, tuple[bool, bytes]]) -> tuple[bool, int | None]:
    if BASIC_CONSTRAINTS not in raw:
        return False, None
    what = "basic constraints"
    reader = der.parse_one(raw[BASIC_CONSTRAINTS][1], der.SEQUENCE, what).inside()
    flag = reader.optional(der.BOOLEAN, what)
    ca = flag is not None and der.boolean(flag, what)
    number = reader.optional(der.INTEGER, what)
    reader.finish(what)
    if number is None:
        return ca, None
    length = der.integer(number, what)
    if not 0 <= length <= _MAX_PATH_LENGTH:
        raise MalformedError("basic constraints have a path length that is none")
    return ca, length


def _key_usage(raw: Mapping[str, tuple[bool, bytes]]) -> KeyUsage | None:
    if KEY_USAGE not in raw:
        return None
    what = "key usage"
    bits = der.named_bits(der.parse_one(raw[KEY_USAGE][1], der.BIT_STRING, what), what)
    return KeyUsage(bits & sum(KeyUsage))


def _extended_key_usage(raw: Mapping[str, tuple[bool, bytes]]) -> frozenset[str] | None:
    if EXTENDED_KEY_USAGE not in raw:
        return None
    what = "extended key usage"
    purposes: set[str] = set()
    for each in der.parse_one(raw[EXTENDED_KEY_USAGE][1], der.SEQUENCE, what).inside().rest(what):
        if each.tag != der.OID or len(purposes) >= _MAX_PURPOSES:
            raise MalformedError("extended key usage holds something else, or too much")
        purposes.add(der.object_identifier(each, what))
    return frozenset(purposes)


def _subject_alternative_name(
    raw: Mapping[str, tuple[bool, bytes]], tolerated: set[Tolerance]
) -> tuple[TPMIdentity | None, bool]:
    """Return the TPM's make, and whether every name was a directoryName, which is all we read."""
    if SUBJECT_ALTERNATIVE_NAME not in raw:
        return None, False
    what = "the subject alternative name"
    names = der.parse_one(raw[SUBJECT_ALTERNATIVE_NAME][1], der.SEQUENCE, what).inside()
    found: list[dict[str, list[str | None]]] = []
    known = True
    for count, each in enumerate(names.rest(what)):
        if count >= _MAX_NAMES:
            raise MalformedError(f"{what} has more than {_MAX_NAMES} names")
        if each.tag != _DIRECTORY_NAME:
            known = False
            continue
        inner = each.inside()
        name = inner.take(der.SEQUENCE, what)
        inner.finish(what)
        values: dict[str, list[str | None]] = {}
        for kind, text in attributes(name, tolerated, what):
            values.setdefault(kind, []).append(text)
        found.append(values)
    return _identity(found), known


def _identity(names: list[dict[str, list[str | None]]]) -> TPMIdentity | None:
    stating = [
        values
        for values in names
        if any(kind in values for kind in (_MANUFACTURER, _MODEL, _VERSION))
    ]
    # Two statements of one thing would leave the choice to the reader: that states nothing.
    if len(stating) != 1:
        return None
    parts = [stating[0].get(kind, []) for kind in (_MANUFACTURER, _MODEL, _VERSION)]
    texts = [part[0] for part in parts if len(part) == 1]
    sound = [text for text in texts if text and len(text) <= _MAX_ATTRIBUTE and text.isprintable()]
    return TPMIdentity(*sound) if len(sound) == len(parts) else None


def _family(raw: Mapping[str, tuple[bool, bytes]]) -> str | None:
    if SUBJECT_DIRECTORY_ATTRIBUTES not in raw:
        return None
    what = "subject directory attributes"
    found: list[str | None] = []
    value = raw[SUBJECT_DIRECTORY_ATTRIBUTES][1]
    for each in der.parse_one(value, der.SEQUENCE, what).inside().rest(what):
        inner = each.inside()
        if der.object_identifier(inner.take(der.OID, what), what) != _SPECIFICATION:
            continue
        # TPMSpecification ::= SEQUENCE { family UTF8String, level INTEGER, revision INTEGER }
        found += [
            der.text(specification.inside().any(what))
            for specification in inner.take(der.SET, what).inside().rest(what)
        ]
    # A second statement, or one that does not decode, is another family than 2.0.
    return None if not found else found[0] if len(found) == 1 and found[0] else "?"
