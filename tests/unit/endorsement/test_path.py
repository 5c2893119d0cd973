"""Paths: what RFC 5280 asks of every CA between an EK certificate and a pinned one."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bootlease.endorsement import TrustedRoots, parse_certificate, verify_ek_chain
from bootlease.endorsement.path import MAX_STEPS, find_path
from bootlease.errors import VerificationError
from bootlease.testing.handmade import (
    CA_EXTENSIONS,
    EK_EXTENSIONS,
    Handmade,
    alternative_name,
    basic_constraints,
    common_name,
    endorsement_key,
    extended_key_usage,
    extension,
    key_usage,
    name,
    sequence,
    specification,
    utf8,
)

NOW = 1_700_000_000
ROOT_KEY, CA_KEY, EK_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
ROOT_NAME, CA_NAME = common_name("Root"), common_name("CA")
ROOT = Handmade(ROOT_KEY.public_key(), ROOT_NAME, ROOT_NAME, CA_EXTENSIONS)
MIDDLE = Handmade(CA_KEY.public_key(), ROOT_NAME, CA_NAME, CA_EXTENSIONS)
LEAF = Handmade(EK_KEY.public_key(), CA_NAME)
EK = endorsement_key(EK_KEY.public_key())


def refused(
    leaf: Handmade = LEAF, middle: Handmade = MIDDLE, root: Handmade = ROOT, now: int = NOW
) -> list[str]:
    """Return the ids of what refuses a chain of three."""
    chain = [leaf.signed(CA_KEY), middle.signed(ROOT_KEY)]
    roots = TrustedRoots.of([root.signed(ROOT_KEY)])
    try:
        verify_ek_chain(chain, roots, EK, now=now)
    except VerificationError as exc:
        return [finding.id for finding in exc.findings]
    return []


def with_extensions(made: Handmade, *extensions: bytes) -> Handmade:
    """Return a certificate with further extensions."""
    return dataclasses.replace(made, extensions=(*made.extensions, *extensions))


def test_a_sound_chain_is_accepted() -> None:
    """Nothing refuses where nothing is wrong."""
    assert refused() == []
    assert refused(with_extensions(LEAF, specification("2.0"))) == []


@pytest.mark.parametrize(
    ("middle", "found"),
    [
        (basic_constraints(ca=False), "endorsement.chain.not-a-ca"),
        (basic_constraints(path_length=0), None),
        (None, "endorsement.chain.not-a-ca"),
    ],
)
def test_basic_constraints_of_an_issuer(middle: bytes | None, found: str | None) -> None:
    """B14: only a CA issues; a path length of 0 lets it issue leaves."""
    extensions = [each for each in (middle, key_usage(5)) if each is not None]
    ids = refused(middle=dataclasses.replace(MIDDLE, extensions=extensions))
    assert ids == ([] if found is None else [found])


def test_key_usage_of_an_issuer() -> None:
    """B14: keyCertSign, and it is stated."""
    for usage in ((), (key_usage(0),), (key_usage(6),)):
        extensions = (basic_constraints(), *usage)
        ids = refused(middle=dataclasses.replace(MIDDLE, extensions=extensions))
        assert ids == ["endorsement.chain.not-a-ca"]


def test_a_pinned_ca_is_held_to_the_same() -> None:
    """Pinning says whom to trust, not for what."""
    extensions = (basic_constraints(path_length=0), key_usage(5))
    short = dataclasses.replace(ROOT, extensions=extensions)
    assert refused(root=short) == ["endorsement.chain.path-length"]
    silent = dataclasses.replace(ROOT, extensions=(basic_constraints(),))
    assert refused(root=silent) == ["endorsement.chain.not-a-ca"]


def test_a_critical_extension_that_is_not_understood_refuses() -> None:
    """B11: in the leaf and in each CA, the pinned one too; not critical, it is skipped."""
    odd, noted = (extension("1.2.3.4", b"\x05\0", critical=critical) for critical in (True, False))
    for made in ({"leaf": LEAF}, {"middle": MIDDLE}, {"root": ROOT}):
        for part, certificate in made.items():
            strange: dict[str, Any] = {part: with_extensions(certificate, odd)}
            assert refused(**strange) == ["endorsement.extension.critical"]
            skipped: dict[str, Any] = {part: with_extensions(certificate, noted)}
            assert refused(**skipped) == []


def test_a_critical_name_that_is_no_directory_name_is_not_understood() -> None:
    """B11: understanding the directoryName is not understanding every name."""
    directory = name([("2.23.133.2.1", utf8("id:53544D20"))])
    dns = extension("2.5.29.17", sequence(b"\x82\x01a"), critical=True)
    assert directory
    leaf = dataclasses.replace(LEAF, extensions=(dns, *EK_EXTENSIONS[1:]))
    assert refused(leaf) == ["endorsement.identity.missing", "endorsement.extension.critical"]


def test_critical_certificate_policies_constrain_nothing() -> None:
    """STM's and Infineon's CAs have them; no policy is asked for (RFC 5280 §6.1.1 (c))."""
    policies = extension("2.5.29.32", sequence(sequence(b"\x06\x01\x2a")), critical=True)
    assert refused(middle=with_extensions(MIDDLE, policies)) == []


def test_name_constraints_refuse_critical_or_not() -> None:
    """What is not processed must not be passed over."""
    for critical in (True, False):
        constraints = extension("2.5.29.30", sequence(), critical=critical)
        assert "endorsement.chain.name-constraints" in refused(
            middle=with_extensions(MIDDLE, constraints)
        )


def test_a_ca_for_another_purpose_vouches_for_no_ek() -> None:
    """A CA whose purposes are stated is there for EKs, or for anything."""
    assert refused(middle=with_extensions(MIDDLE, extended_key_usage("2.23.133.8.3"))) == [
        "endorsement.chain.purpose"
    ]
    for purpose in ("2.23.133.8.1", "2.5.29.37.0"):
        assert refused(middle=with_extensions(MIDDLE, extended_key_usage(purpose))) == []


def test_validity_of_each_certificate() -> None:
    """Told apart: the EK's, a CA's on the way, the pinned one's."""
    over = dt.date(2021, 1, 1)
    assert refused(dataclasses.replace(LEAF, end=over)) == ["endorsement.certificate.expired"]
    assert refused(middle=dataclasses.replace(MIDDLE, end=over)) == [
        "endorsement.intermediate.expired"
    ]
    assert refused(root=dataclasses.replace(ROOT, end=over)) == ["endorsement.root.expired"]
    later = dt.date(2030, 1, 1)
    assert refused(dataclasses.replace(LEAF, start=later)) == [
        "endorsement.certificate.not-yet-valid"
    ]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_endorsement_ends_with_the_first_of_its_certificates(place: int) -> None:
    """Whichever that is: the EK's, a CA's, the pinned one's."""
    made = [LEAF, MIDDLE, ROOT]
    made[place] = dataclasses.replace(made[place], end=dt.date(2030, 1, 1))
    leaf, middle, root = (
        each.signed(key) for each, key in zip(made, (CA_KEY, ROOT_KEY, ROOT_KEY), strict=True)
    )
    verified = verify_ek_chain([leaf, middle], TrustedRoots.of([root]), EK, now=NOW)
    end = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    assert verified.endorsement.not_after == int(end.timestamp())


def test_a_weak_ca_key_refuses() -> None:
    """B17: RSA below 2,048 bits signs whatever its factors sign."""
    weak = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to be refused
    leaf = dataclasses.replace(
        LEAF, issuer=CA_NAME, algorithm="1.2.840.113549.1.1.11", parameters=b"\x05\0"
    ).signed(weak)
    middle = dataclasses.replace(MIDDLE, key=weak.public_key()).signed(ROOT_KEY)
    roots = TrustedRoots.of([ROOT.signed(ROOT_KEY)])
    with pytest.raises(VerificationError) as caught:
        verify_ek_chain([leaf, middle], roots, EK, now=NOW)
    assert [each.id for each in caught.value.findings] == ["endorsement.chain.weak-key"]


def test_a_curve_that_is_not_known_is_no_key() -> None:
    """B17: a key that cannot be loaded verifies nothing; it is never skipped."""
    unknown = ec.generate_private_key(ec.SECP256K1())
    middle = dataclasses.replace(MIDDLE, key=unknown.public_key())
    signed = dataclasses.replace(LEAF).signed(unknown)
    roots = TrustedRoots.of([ROOT.signed(ROOT_KEY)])
    with pytest.raises(VerificationError, match="trusted root"):
        verify_ek_chain([signed, middle.signed(ROOT_KEY)], roots, EK, now=NOW)


@pytest.mark.parametrize(
    ("usage", "accepted"),
    [((4,), True), ((2,), False), ((0,), False), ((0, 4), True), ((5,), False)],
)
def test_an_ek_decrypts(usage: Sequence[int], accepted: bool) -> None:  # noqa: FBT001 - a parameter
    """B10: an ECC EK agrees on keys; one that only signs is an AK, whatever its purpose says."""
    leaf = dataclasses.replace(LEAF, extensions=(*EK_EXTENSIONS[:3], key_usage(*usage)))
    assert refused(leaf) == ([] if accepted else ["endorsement.key-usage.mismatch"])


@pytest.mark.parametrize("family", ["1.2", "", "2.0 "])
def test_another_family_is_refused(family: str) -> None:
    """The certificate of a TPM 1.2 says nothing of a TPM 2.0 with its key."""
    assert refused(with_extensions(LEAF, specification(family))) == ["endorsement.family.mismatch"]


def test_an_ak_certificate_is_no_ek_certificate() -> None:
    """B10: tcg-kp-AIKCertificate is another purpose."""
    extensions = (alternative_name(), extended_key_usage("2.23.133.8.3"), *EK_EXTENSIONS[2:])
    assert refused(dataclasses.replace(LEAF, extensions=extensions)) == ["endorsement.eku.missing"]


def test_names_are_the_same_as_rfc_5280_has_it() -> None:
    """STM spells one CA's name as PrintableString and as UTF8String, and folds no blanks."""
    printable = name([("2.5.4.3", utf8("  ca", 0x13))])
    assert refused(dataclasses.replace(LEAF, issuer=printable)) == []
    other = name([("2.5.4.10", utf8("CA"))])
    assert refused(dataclasses.replace(LEAF, issuer=other)) == ["endorsement.chain.untrusted"]


def test_the_wrong_one_of_two_cas_of_one_name_does_not_stand_in_the_way() -> None:
    """A CA that renewed its key has two certificates of one name."""
    other = ec.generate_private_key(ec.SECP256R1())
    twin = dataclasses.replace(MIDDLE, key=other.public_key()).signed(ROOT_KEY)
    roots = TrustedRoots.of([ROOT.signed(ROOT_KEY)])
    chain = [LEAF.signed(CA_KEY), twin, MIDDLE.signed(ROOT_KEY)]
    assert verify_ek_chain(chain, roots, EK, now=NOW).endorsement.root in roots


def test_the_shortest_way_to_a_pinned_ca_is_taken() -> None:
    """Which of several pinned CAs a record names does not depend on what the client sends."""
    middle, root = MIDDLE.signed(ROOT_KEY), ROOT.signed(ROOT_KEY)
    roots = TrustedRoots.of([root, middle])
    for chain in ([LEAF.signed(CA_KEY)], [LEAF.signed(CA_KEY), middle, root]):
        found = verify_ek_chain(chain, roots, EK, now=NOW).endorsement
        assert found.root == parse_certificate(middle).fingerprint


def test_a_maze_of_certificates_ends() -> None:
    """CAs that issue each other are a finite search, and no key of the client's is an anchor."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(5)]
    same = common_name("Maze")
    maze = [
        parse_certificate(Handmade(key.public_key(), same, same, CA_EXTENSIONS).signed(keys[0]))
        for key in keys
    ]
    leaf = parse_certificate(dataclasses.replace(LEAF, issuer=same).signed(keys[0]))
    path, findings = find_path(leaf, maze, {}, now=NOW)
    assert path is None
    assert [each.id for each in findings] == ["endorsement.chain.untrusted"]
    assert MAX_STEPS < 1000


def test_a_certificate_that_the_client_sends_is_no_anchor() -> None:
    """B14: a complete chain of the client's own leads nowhere."""
    own = ec.generate_private_key(ec.SECP256R1())
    root = dataclasses.replace(ROOT, key=own.public_key()).signed(own)
    middle = dataclasses.replace(MIDDLE).signed(own)
    roots = TrustedRoots.of([ROOT.signed(ROOT_KEY)])
    with pytest.raises(VerificationError, match="trusted root"):
        verify_ek_chain([LEAF.signed(CA_KEY), middle, root], roots, EK, now=NOW)
