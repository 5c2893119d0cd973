"""Reference sets as Concise Reference Integrity Manifests (CoRIM), and back.

Specification: draft-ietf-rats-corim-11, ``corim-map``, ``concise-mid-tag``,
``reference-triple-record`` and ``integrity-registers``; hash algorithms by their Named Information
ids (RFC 6920 §9.4).

One set is one CoRIM with one CoMID tag. What CoRIM has words for stands in its own places: PCR
values as integrity registers by PCR index, digests of files as integrity registers by path, the
validity as ``rim-validity``. The rest stands under a key of our own profile::

    501({0: "sha256:<digest of the set>", 1: [506(<< CoMID >>)], 3: 32(PROFILE),
         ? 4: {? 0: 1(not before), 1: 1(not after)}})
    CoMID = {1: {0: "<name>:<version>"},
             4: {? 0: [[environment, [{1: {14: {+ register => [+ digest]}}}]]],
                 -1: members of the set's canonical form that stand nowhere else}}
    environment = {0: {0: 560('bootlease/boot' or 'bootlease/ima'), 2: "<name>"}}

What is read of our own profile must be, byte for byte, what this module makes of the set that it
holds: a file that contradicts itself is refused. Of others, a CoRIM without a profile is read if it
says nothing but integrity registers, by number, of one environment; names and versions of sets it
does not have. A profile that is not ours is refused, as the draft demands.

Not handled, and refused: CoSWID and tag lists, more than one CoMID, every other triple and
measurement, dependent RIMs, the outer tags 500 and 502 of early drafts, and indefinite lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bootlease import cbor
from bootlease.cbor import CBORTag
from bootlease.errors import MalformedError
from bootlease.ima.entry import DigestType
from bootlease.model import PCR_COUNT, HashAlg
from bootlease.reference.imaset import IMA_REFERENCE_TYPE, MAX_FILES
from bootlease.reference.kinds import AnyReference, parse_any_canonical_reference
from bootlease.reference.values import MAX_VALUES, ReferenceSet, ValueReference

PROFILE: Final = "tag:bootlease.dev,2026:corim/reference#1"
MAX_CORIM: Final = 256 * 1024 * 1024

NAMED_HASHES: Final[Mapping[str, int]] = {
    "sha256": 1,
    "sha384": 7,
    "sha512": 8,
    "sha3_256": 10,
    "sha3_384": 11,
    "sha3_512": 12,
}
"""Ids of the IANA Named Information Hash Algorithm Registry by this package's names."""

_ALGS: Final = {number: alg for alg, number in NAMED_HASHES.items()}
_TIME, _URI, _UUID, _OID, _UEID, _BYTES = 1, 32, 37, 111, 550, 560
_CORIM, _COMID = 501, 506
_TAGS: Final = frozenset({_CORIM, _COMID, _URI, _TIME})
_COMID_TAGS: Final = frozenset({_UUID, _OID, _UEID, _BYTES, _URI})
_EARLY_TAGS: Final = (500, 502)
_MAX_ITEMS: Final = 8 * MAX_FILES

_ID, _TAGS_KEY, _PROFILE_KEY, _VALIDITY, _ENTITIES = 0, 1, 3, 4, 5
_LANGUAGE, _IDENTITY, _COMID_ENTITIES, _TRIPLES = 0, 1, 2, 4
_REFERENCE_TRIPLES: Final = 0
_REST: Final = -1
_CLASS, _CLASS_ID, _MODEL = 0, 0, 2
_MVAL, _REGISTERS = 1, 14
_NOT_BEFORE, _NOT_AFTER = 0, 1

Register = int | str
"""Index of a PCR or path of a file."""

Registers = Mapping[Register, Sequence[tuple[int, bytes]]]
"""Good digests, each with the id of its hash, by register."""


@dataclass(frozen=True, slots=True)
class CoRIMRegisters:
    """PCR values of somebody else's CoRIM, unverified.

    Attributes:
        values: Good values by PCR and bank.
        not_before: First second at which they count, if limited.
        not_after: Last second at which they count, if limited.
    """

    values: Mapping[HashAlg, Mapping[int, tuple[bytes, ...]]]
    not_before: int | None
    not_after: int | None

    def as_reference(self, *, name: str, version: str, bank: HashAlg) -> ReferenceSet:
        """Make a set of the values of one bank.

        Raises:
            MalformedError: A register has no value of this bank, or they make no set.
        """
        pcrs = {pcr for values in self.values.values() for pcr in values}
        if missing := sorted(pcrs - self.values.get(bank, {}).keys()):
            raise MalformedError(f"CoRIM: register {missing[0]} has no {bank.label} value")
        try:
            return ReferenceSet(
                name=name,
                version=version,
                bank=bank,
                pcrs={pcr: ValueReference(each) for pcr, each in self.values[bank].items()},
                not_before=self.not_before,
                not_after=self.not_after,
            )
        except ValueError as exc:
            raise MalformedError(f"CoRIM: {exc}") from exc


def encode_corim(reference: AnyReference) -> bytes:
    """Return a set as an unsigned CoRIM (tag 501), deterministically encoded."""
    rest: dict[str, Any] = cbor.decode(reference.encode(), max_bytes=MAX_CORIM)
    name, version = rest.pop("name"), rest.pop("version")
    registers: Registers
    if rest["type"] == IMA_REFERENCE_TYPE:
        kind = b"bootlease/ima"
        registers, rest["files"] = _take_files(rest["files"])
    else:
        kind = b"bootlease/boot"
        registers = _take_values(rest)
    triples: dict[int, Any] = {_REST: rest}
    corim: dict[int, Any] = {
        _ID: f"sha256:{reference.digest.hex()}",
        _PROFILE_KEY: CBORTag(_URI, PROFILE),
    }
    if "exp" in rest:
        # A validity-map must have an end; without one the beginning stays with the rest.
        ends = {_NOT_AFTER: rest.pop("exp"), _NOT_BEFORE: rest.pop("nbf", None)}
        corim[_VALIDITY] = {
            key: CBORTag(_TIME, value) for key, value in ends.items() if value is not None
        }
    if registers:
        environment = {_CLASS: {_CLASS_ID: CBORTag(_BYTES, kind), _MODEL: name}}
        mval = {_REGISTERS: {key: [*map(list, each)] for key, each in registers.items()}}
        triples[_REFERENCE_TRIPLES] = [[environment, [{_MVAL: mval}]]]
    comid = {_IDENTITY: {0: f"{name}:{version}"}, _TRIPLES: triples}
    corim[_TAGS_KEY] = [CBORTag(_COMID, cbor.encode(comid, tags=_COMID_TAGS))]
    return cbor.encode(CBORTag(_CORIM, corim), tags=_TAGS)


def _take_values(rest: dict[str, Any]) -> Registers:
    """Move the PCR values out of a boot set's canonical members."""
    number = NAMED_HASHES.get(HashAlg(rest["bank"]).label)
    if number is None:
        return {}
    registers: dict[Register, list[tuple[int, bytes]]] = {}
    for pcr, constraint in rest["pcrs"].items():
        if constraint[0] == "value":
            registers[pcr] = [(number, value) for value in constraint[1]]
            constraint[1] = []
    return registers


def _take_files(files: list[Any]) -> tuple[Registers, list[Any]]:
    """Split the files of an IMA set into those that CoRIM can say and those that it cannot."""
    registers: dict[Register, list[tuple[int, bytes]]] = {}
    left = []
    for path, digests in files:
        known = [
            (NAMED_HASHES[alg], value)
            for kind, alg, value in digests
            if kind == DigestType.IMA.value and alg in NAMED_HASHES
        ]
        try:
            text = path.decode()
        except UnicodeDecodeError:
            text = None
        if text is None or len(known) != len(digests):
            left.append([path, digests])
        else:
            registers[text] = known
    return registers, left


def parse_corim(data: bytes) -> AnyReference | CoRIMRegisters:
    """Read an unsigned CoRIM; who vouches for it is not in it.

    Returns:
        The set, of a CoRIM that this module's ``encode_corim`` could have made; of others the PCR
        values.

    Raises:
        MalformedError: It is none, contradicts itself, or says what is not understood here.
    """
    if len(data) <= MAX_CORIM:
        cbor.demand_few(data, at_most=_MAX_ITEMS)
    tagged = cbor.decode_foreign(data, max_bytes=MAX_CORIM, tags=_TAGS | {*_EARLY_TAGS})
    if not isinstance(tagged, CBORTag) or tagged.tag != _CORIM:
        raise MalformedError("not an unsigned CoRIM of the current draft (tag 501)")
    corim = _map(tagged.value, "corim-map")
    _only(corim, {_ID, _TAGS_KEY, _PROFILE_KEY, _VALIDITY, _ENTITIES}, "corim-map")
    if not isinstance(corim.get(_ID), str | bytes):
        raise MalformedError("CoRIM: it has no id")
    comid = _comid(corim.get(_TAGS_KEY))
    if _PROFILE_KEY in corim:
        _demand_profile(corim[_PROFILE_KEY])
        return _own(data, corim, comid)
    return _foreign(corim, comid)


def _map(value: object, what: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise MalformedError(f"CoRIM: {what} is not a map")
    return value


def _array(value: object, what: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple) or not value:
        raise MalformedError(f"CoRIM: {what} is not an array with something in it")
    return value


def _only(members: Mapping[Any, Any], known: set[int], what: str) -> None:
    if unknown := [key for key in members if key not in known]:
        raise MalformedError(f"CoRIM: {what} has member {unknown[0]!r:.40}, not understood here")


def _one(value: object, what: str) -> Any:  # noqa: ANN401 - CBOR is dynamic
    items = _array(value, what)
    if len(items) != 1:
        raise MalformedError(f"CoRIM: more than one of {what} is not understood here")
    return items[0]


def _demand_profile(value: object) -> None:
    if not isinstance(value, CBORTag) or value.tag != _URI or value.value != PROFILE:
        # "Failure to recognize the profile identifier MUST result in the rejection".
        raise MalformedError(f"CoRIM: its profile is not {PROFILE}, which alone is understood here")


def _comid(tags: object) -> Mapping[Any, Any]:
    tag = _one(tags, "tags")
    if not isinstance(tag, CBORTag) or tag.tag != _COMID or type(tag.value) is not bytes:
        raise MalformedError("CoRIM: its tag is no CoMID (tag 506)")
    cbor.demand_few(tag.value, at_most=_MAX_ITEMS)
    comid = cbor.decode_foreign(tag.value, max_bytes=MAX_CORIM, tags=_COMID_TAGS)
    return _map(comid, "concise-mid-tag")


def _validity(corim: Mapping[Any, Any]) -> tuple[int | None, int | None]:
    """Return first and last second."""
    if _VALIDITY not in corim:
        return None, None
    validity = _map(corim[_VALIDITY], "validity-map")
    _only(validity, {_NOT_BEFORE, _NOT_AFTER}, "validity-map")
    if _NOT_AFTER not in validity:
        raise MalformedError("CoRIM: its validity has no end")
    return (
        _time(validity[_NOT_BEFORE]) if _NOT_BEFORE in validity else None,
        _time(validity[_NOT_AFTER]),
    )


def _time(value: object) -> int:
    if isinstance(value, CBORTag) and value.tag == _TIME and type(value.value) is int:
        return value.value
    raise MalformedError("CoRIM: a time is not whole seconds (tag 1)")


def _registers(triples: Mapping[Any, Any]) -> Iterator[tuple[Register, Sequence[Any]]]:
    """Yield the integrity registers of the reference triples, each register once."""
    if _REFERENCE_TRIPLES not in triples:
        return
    seen: set[Register] = set()
    record = _one(triples[_REFERENCE_TRIPLES], "reference triples")
    if not isinstance(record, list | tuple) or len(record) != 2:  # noqa: PLR2004 - environment and claims
        raise MalformedError("CoRIM: a reference triple is not [environment, measurements]")
    _map(record[0], "environment-map")
    for each in _array(record[1], "measurements"):
        measurement = _map(each, "measurement-map")
        _only(measurement, {_MVAL}, "measurement-map")
        mval = _map(measurement.get(_MVAL), "measurement-values-map")
        _only(mval, {_REGISTERS}, "measurement-values-map")
        for register, digests in _map(mval.get(_REGISTERS), "integrity-registers").items():
            if register in seen:
                raise MalformedError(f"CoRIM: register {register!r:.80} is there twice")
            seen.add(register)
            yield register, _array(digests, f"digests of register {register!r:.80}")


def _digest(value: object) -> tuple[str, bytes]:
    """Return hash algorithm and digest."""
    match value:
        case [int() as number, bytes() as digest] if number in _ALGS and number is not True:
            return _ALGS[number], digest
    raise MalformedError("CoRIM: a digest is not [id of a known hash algorithm, bytes]")


def _own(data: bytes, corim: Mapping[Any, Any], comid: Mapping[Any, Any]) -> AnyReference:
    """Read a CoRIM of our own profile."""
    triples = _map(comid.get(_TRIPLES), "triples-map")
    members = dict(_map(triples.get(_REST), "member -1 of the triples"))
    identity = _map(comid.get(_IDENTITY), "tag-identity-map").get(0)
    if type(identity) is not str:
        raise MalformedError("CoRIM: its tag has no id that is text")
    members["name"], _, members["version"] = identity.partition(":")
    registers = dict(_registers(triples))
    if members.get("type") == IMA_REFERENCE_TYPE:
        _put_files(members, registers)
    else:
        _put_values(members, registers)
    not_before, not_after = _validity(corim)
    ends = {"nbf": not_before, "exp": not_after}
    members |= {key: value for key, value in ends.items() if value is not None}
    try:
        reference = parse_any_canonical_reference(cbor.encode(members))
    except ValueError as exc:
        raise MalformedError(f"CoRIM: {exc}") from exc
    if encode_corim(reference) != data:
        raise MalformedError("CoRIM: it contradicts itself, or says more than its profile knows")
    return reference


def _put_values(members: dict[str, Any], registers: Mapping[Register, Sequence[Any]]) -> None:
    pcrs = {**_map(members.get("pcrs"), "member pcrs of the rest")}
    for pcr, digests in registers.items():
        constraint = pcrs.get(pcr)
        if not isinstance(constraint, list | tuple) or list(constraint[:2]) != ["value", []]:
            raise MalformedError(f"CoRIM: register {pcr!r:.40} is not one that the rest speaks of")
        values = [digest for _, digest in map(_digest, digests)]
        pcrs[pcr] = [constraint[0], values, *constraint[2:]]
    members["pcrs"] = pcrs


def _put_files(members: dict[str, Any], registers: Mapping[Register, Sequence[Any]]) -> None:
    rest = members.get("files")
    if not isinstance(rest, list | tuple):
        raise MalformedError("CoRIM: the rest of the files is no array")
    files = list(rest)
    for path, digests in registers.items():
        if type(path) is not str:
            raise MalformedError("CoRIM: a file is named by a number")
        listed = [[DigestType.IMA.value, *_digest(digest)] for digest in digests]
        files.append([path.encode(), listed])
    if not all(
        isinstance(each, list | tuple) and each and type(each[0]) is bytes for each in files
    ):
        raise MalformedError("CoRIM: a file is not [path, digests]")
    members["files"] = sorted(files, key=lambda each: each[0])


def _foreign(corim: Mapping[Any, Any], comid: Mapping[Any, Any]) -> CoRIMRegisters:
    """Read a CoRIM of nobody's profile."""
    _only(comid, {_LANGUAGE, _IDENTITY, _COMID_ENTITIES, _TRIPLES}, "concise-mid-tag")
    triples = _map(comid.get(_TRIPLES), "triples-map")
    _only(triples, {_REFERENCE_TRIPLES}, "triples-map")
    values: dict[HashAlg, dict[int, tuple[bytes, ...]]] = {}
    for pcr, digests in _registers(triples):
        if type(pcr) is not int or not 0 <= pcr < PCR_COUNT:
            raise MalformedError(f"CoRIM: register {pcr!r:.40} is no PCR")
        if len(digests) > MAX_VALUES:
            raise MalformedError(f"CoRIM: register {pcr} has more than {MAX_VALUES} digests")
        for label, digest in map(_digest, digests):
            bank = values.setdefault(HashAlg.from_label(label), {})
            if len(digest) != HashAlg.from_label(label).size or digest in bank.get(pcr, ()):
                raise MalformedError(f"CoRIM: a {label} digest of register {pcr} is no new one")
            bank[pcr] = (*bank.get(pcr, ()), digest)
    if not values:
        raise MalformedError("CoRIM: it has no integrity registers")
    not_before, not_after = _validity(corim)
    return CoRIMRegisters(values, not_before, not_after)
