"""EK templates are those of the TCG, and NV contents are cut where certificates end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tpm2_pytss.utils import NoSuchIndex, create_ek_template

from bootlease.node.tpm.ek_templates import (
    POLICY_C,
    der_length,
    ek_profiles,
    split_chain,
    trimmed_certificate,
    with_nonce,
)
from bootlease.node.tpm.key_kinds import EKAlgorithm
from bootlease.testing.local_ca import LocalCA
from bootlease.tpm import TPMSECCPoint

NAMES = {
    (EKAlgorithm.RSA_2048, 0): "L-1",
    (EKAlgorithm.RSA_2048, 1): "H-1",
    (EKAlgorithm.ECC_P256, 0): "L-2",
    (EKAlgorithm.ECC_P256, 1): "H-2",
    (EKAlgorithm.ECC_P384, 0): "H-3",
}


def _certificate_only(wanted: int) -> object:
    def read(index: int) -> bytes:
        if index != wanted:
            raise NoSuchIndex(index)
        return b"certificate"

    return read


@pytest.mark.parametrize(("key", "name"), NAMES.items(), ids=NAMES.values())
def test_template_and_index_are_those_of_tpm2_pytss(
    key: tuple[EKAlgorithm, int], name: str
) -> None:
    """An independent implementation has the same template, and looks in the same place."""
    profile = ek_profiles(key[0])[key[1]]
    if name.startswith("H"):
        reader = _certificate_only(profile.certificate_index)
        certificate, template = create_ek_template(
            {"H-1": "EK-HIGH-RSA2048", "H-2": "EK-HIGH-ECC256", "H-3": "EK-HIGH-ECC384"}[name],
            reader,
        )
    else:
        reader = _certificate_only(profile.certificate_index)
        certificate, template = create_ek_template(
            {"L-1": "EK-RSA2048", "L-2": "EK-ECC256"}[name], reader
        )
    assert certificate == b"certificate"
    assert bytes(template.publicArea.marshal()) == profile.template.marshal()


def test_every_high_range_policy_has_its_other_branch() -> None:
    """PolicyOR needs the digest of PolicyC for each hash in use."""
    for algorithm in EKAlgorithm:
        for profile in ek_profiles(algorithm):
            assert profile.nonce_index is not None or profile.policy_hash in POLICY_C


def test_nonce_goes_into_unique() -> None:
    """A maker's nonce is padded to the size of the key."""
    rsa = with_nonce(ek_profiles(EKAlgorithm.RSA_2048)[0].template, b"n")
    assert rsa.unique == b"n" + bytes(255)
    ecc = with_nonce(ek_profiles(EKAlgorithm.ECC_P256)[0].template, b"n")
    assert ecc.unique == TPMSECCPoint(b"n" + bytes(31), bytes(32))


@pytest.mark.parametrize("padding", [b"", b"\xff" * 400, bytes(7)])
def test_padding_behind_a_certificate_goes(padding: bytes) -> None:
    """NV indices are often larger than the certificate in them."""
    certificate = LocalCA.create().intermediate_der
    assert trimmed_certificate(certificate + padding) == certificate


def test_foreign_beginning_is_handed_over_as_it_is() -> None:
    """A header of the maker's own is for the verifier to judge."""
    assert trimmed_certificate(b"\x10\x01\0\x03\x82\x10\x02" + b"x") == (
        b"\x10\x01\0\x03\x82\x10\x02x"
    )


def test_chain_is_split_at_its_certificates() -> None:
    """Certificates follow each other, with or without fill between them."""
    ca = LocalCA.create()
    one, two = ca.intermediate_der, LocalCA.create().intermediate_der
    assert split_chain(one + two) == [one, two]
    assert split_chain(one + b"\xff\xff" + two + bytes(3)) == [one, two]
    assert split_chain(one + two[:-1]) == [one]


@given(st.binary(max_size=64))
def test_any_bytes_can_be_split(data: bytes) -> None:
    """Whatever lies in NV memory, splitting ends and invents nothing."""
    assert all(part in data for part in split_chain(data))
    assert data.startswith(trimmed_certificate(data))
    length = der_length(data)
    assert length is None or length >= 2
