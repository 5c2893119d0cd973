"""TPM parsers on any bytes: parse, or MalformedError, never any other; and one spelling only."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError, VerificationError
from bootlease.model import ClockInfo, HashAlg
from bootlease.tpm import (
    TPM_GENERATED,
    TPMST,
    PCRSelection,
    TPMAlg,
    TPMAObject,
    TPMSAttest,
    TPMSCertifyInfo,
    TPMSECCParms,
    TPMSECCPoint,
    TPMSQuoteInfo,
    TPMSRSAParms,
    TPMSSignatureECC,
    TPMSSignatureRSA,
    TPMTAsymScheme,
    TPMTPublic,
    TPMTSignature,
    TPMTSymDefObject,
    accept_attestation_key,
    accept_bound_key,
    accept_endorsement_key,
    parse_attest,
    parse_header,
    parse_public,
    parse_public_2b,
    parse_public_either,
    parse_signature,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Structure(Protocol):
    """What every parsed structure can do."""

    def marshal(self) -> bytes:
        """Return the wire form."""


u16: Final = st.integers(0, 0xFFFF)
u32: Final = st.integers(0, 0xFFFFFFFF)
u64: Final = st.integers(0, (1 << 64) - 1)
algs: Final = st.sampled_from([*HashAlg, 0x0010, 0x7777])


@st.composite
def selections(draw: st.DrawFn) -> PCRSelection:
    """A selection of any size of bit map."""
    size = draw(st.integers(0, 4))
    pcrs = draw(st.sets(st.integers(0, 8 * size - 1))) if size else set()
    return PCRSelection(draw(algs), tuple(sorted(pcrs)), size)


quotes: Final = st.builds(
    TPMSQuoteInfo, st.lists(selections(), max_size=16).map(tuple), st.binary(max_size=64)
)
names: Final = st.binary(max_size=66)
certifications: Final = st.builds(TPMSCertifyInfo, names, names)
clocks: Final = st.builds(ClockInfo, u64, u32, u32, st.booleans())


def attests(kind: int, body: st.SearchStrategy[object]) -> st.SearchStrategy[TPMSAttest]:
    """Attestations of one type."""
    return st.builds(
        TPMSAttest, st.just(TPM_GENERATED), st.just(kind), names, names, clocks, u64, body
    )


schemes: Final = st.one_of(
    st.sampled_from([TPMTAsymScheme(), TPMTAsymScheme(TPMAlg.RSAES)]),
    st.builds(
        TPMTAsymScheme,
        st.sampled_from([TPMAlg.RSASSA, TPMAlg.RSAPSS, TPMAlg.OAEP, TPMAlg.ECDSA, TPMAlg.ECDH]),
        u16,
    ),
    st.builds(TPMTAsymScheme, st.just(TPMAlg.ECDAA), u16, u16),
)
symmetrics: Final = st.one_of(
    st.just(TPMTSymDefObject()),
    st.builds(
        TPMTSymDefObject, st.sampled_from([TPMAlg.AES, TPMAlg.SM4, TPMAlg.CAMELLIA]), u16, u16
    ),
)
kdfs: Final = st.one_of(
    st.just(TPMTAsymScheme()), st.builds(TPMTAsymScheme, st.just(TPMAlg.KDF2), u16)
)
attributes: Final = st.lists(st.sampled_from(list(TPMAObject))).map(
    lambda flags: TPMAObject(sum(set(flags)))
)
policies: Final = st.binary(max_size=64)
coordinates: Final = st.binary(max_size=128)
points: Final = st.builds(TPMSECCPoint, coordinates, coordinates)
publics: Final = st.one_of(
    st.builds(
        TPMTPublic,
        u16,
        attributes,
        policies,
        st.builds(TPMSRSAParms, symmetrics, schemes, u16, u32),
        st.binary(max_size=512),
    ),
    st.builds(
        TPMTPublic,
        u16,
        attributes,
        policies,
        st.builds(TPMSECCParms, symmetrics, schemes, u16, kdfs),
        points,
    ),
)
signatures: Final = st.one_of(
    st.builds(
        TPMTSignature,
        st.sampled_from([TPMAlg.RSASSA, TPMAlg.RSAPSS]),
        st.builds(TPMSSignatureRSA, u16, st.binary(max_size=512)),
    ),
    st.builds(
        TPMTSignature,
        st.just(TPMAlg.ECDSA),
        st.builds(TPMSSignatureECC, u16, coordinates, coordinates),
    ),
    st.builds(TPMTSignature, st.sampled_from([TPMAlg.NULL, TPMAlg.HMAC, 0x7777]), st.binary()),
)
attestations: Final = st.one_of(
    attests(TPMST.ATTEST_QUOTE, quotes),
    attests(TPMST.ATTEST_CERTIFY, certifications),
    attests(TPMST.ATTEST_TIME, st.binary()),
)

PARSERS: Final[list[Callable[[bytes], Structure]]] = [
    parse_attest,
    parse_header,
    parse_public,
    parse_public_2b,
    parse_public_either,
    parse_signature,
]
CASES: Final[dict[str, tuple[Callable[[bytes], Structure], st.SearchStrategy[Structure]]]] = {
    "attest": (parse_attest, attestations),
    "public": (parse_public, publics),
    "signature": (parse_signature, signatures),
}


@pytest.mark.parametrize("parse", PARSERS)
@given(data=st.binary(max_size=400))
def test_any_bytes_parse_or_are_malformed(parse: Callable[[bytes], Structure], data: bytes) -> None:
    """Random bytes never raise anything else."""
    with contextlib.suppress(MalformedError):
        parse(data)


@pytest.mark.parametrize("kind", CASES)
@given(data=st.data())
def test_a_structure_survives_its_own_wire_form(kind: str, data: st.DataObject) -> None:
    """What is written is what is read, and what is read is written byte for byte."""
    parse, strategy = CASES[kind]
    structure = data.draw(strategy)
    wire = structure.marshal()
    parsed = parse(wire)
    assert parsed == structure
    assert parsed.marshal() == wire


@pytest.mark.parametrize("kind", CASES)
@given(data=st.data())
def test_bent_structures_parse_to_their_own_bytes_or_are_malformed(
    kind: str, data: st.DataObject
) -> None:
    """Whatever parses has exactly one spelling: nothing is skipped or read twice."""
    parse, strategy = CASES[kind]
    wire = bytearray(data.draw(strategy).marshal())
    for _ in range(data.draw(st.integers(1, 4))):
        index = data.draw(st.integers(0, len(wire) - 1))
        wire[index] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    bent = bytes(wire)
    with contextlib.suppress(MalformedError):
        assert parse(bent).marshal() == bent


@pytest.mark.parametrize("kind", CASES)
@given(data=st.data())
def test_every_cut_is_malformed_or_whole(kind: str, data: st.DataObject) -> None:
    """A structure that is cut short is never read as a shorter one of a known form."""
    parse, strategy = CASES[kind]
    wire = data.draw(strategy).marshal()
    cut = wire[: data.draw(st.integers(0, len(wire)))]
    with contextlib.suppress(MalformedError):
        assert parse(cut).marshal() == cut


@given(public=publics)
def test_any_public_area_is_accepted_or_refused(public: TPMTPublic) -> None:
    """No public area makes an accept function fail in another way."""
    for accept in (accept_attestation_key, accept_bound_key, accept_endorsement_key):
        with contextlib.suppress(VerificationError):
            accept(public)
