"""Section A: quotes that are no quotes, cover nothing, or prove something else."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.eventlog import EventType, encode_event_log
from bootlease.eventlog.encode import encode_event
from bootlease.model import Effect, HashAlg
from bootlease.node.tpm.key_kinds import AKAlgorithm
from bootlease.testing.attesting_client import AttestingClient
from bootlease.testing.boot import SimulatedBoot, simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, Scene
from bootlease.tpm import (
    TPMST,
    PCRSelection,
    TPMAlg,
    TPMSAttest,
    TPMSCertifyInfo,
    TPMSQuoteInfo,
)
from tests.attacks.forging import (
    P256_ORDER,
    ForgingNode,
    as_32_bytes,
    ecc_signature,
    ecdsa_numbers,
    ecdsa_signature,
    rsa_signature,
)
from tests.attacks.verdict import MALFORMED, Verdict, attack, benign

NewAttacker = Callable[..., AttestingClient]

BOTH_KEYS: Final = pytest.mark.parametrize(
    "ak_algorithm", list(AKAlgorithm), ids=lambda algorithm: algorithm.value
)
DEMANDED: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14)
ALL_BANKS: Final = (HashAlg.SHA1, HashAlg.SHA256, HashAlg.SHA384)


def forging(client: AttestingClient) -> ForgingNode:
    """The client's node, which forges."""
    assert isinstance(client.device, ForgingNode)
    return client.device


def digest_of(client: AttestingClient, pcrs: tuple[int, ...]) -> bytes:
    """PCR digest over true values."""
    bank = client.device.read_pcrs({HashAlg.SHA256: pcrs})[HashAlg.SHA256]
    return HashAlg.SHA256.digest(b"".join(bank.values()))


# -- A1, A2: what was attested


@attack("A1", "quote.magic.wrong")
@pytest.mark.parametrize("magic", [0, 0xFF544346, 0x474354FF])
@BOTH_KEYS
def test_a_structure_without_tpm_generated_is_no_quote(
    new_attacker: NewAttacker, verdict: Verdict, magic: int, ak_algorithm: AKAlgorithm
) -> None:
    """Bytes that the key signed, but that no TPM made, are no quote."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    client.device.lie(magic=magic)
    verdict.refused(client.present(client.attest()))
    client.device.lie()
    verdict.accepted(client.present(client.attest()))


@attack("A2", "quote.type.wrong")
@pytest.mark.parametrize("kind", [each for each in TPMST if each is not TPMST.ATTEST_QUOTE])
@BOTH_KEYS
def test_another_attestation_with_the_body_of_a_quote_is_no_quote(
    new_attacker: NewAttacker, verdict: Verdict, kind: TPMST, ak_algorithm: AKAlgorithm
) -> None:
    """The type says what the TPM attested, whatever the body looks like."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    client.device.lie(type=kind)
    verdict.refused(client.present(client.attest()))


# -- A3 to A10: which PCRs, and which values


@attack("A3", "quote.pcr.missing")
@BOTH_KEYS
def test_values_of_pcrs_that_anybody_extends_do_not_stand_for_the_demanded_ones(
    new_attacker: NewAttacker, verdict: Verdict, ak_algorithm: AKAlgorithm
) -> None:
    """The signed selection names PCR 12 to 22; the digest is over the values of good PCRs."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    good = client.device.read_pcrs({HashAlg.SHA256: DEMANDED})[HashAlg.SHA256]
    shifted = dict(zip(range(12, 12 + len(good)), good.values(), strict=True))
    client.device.lie(
        selections=(PCRSelection(HashAlg.SHA256, tuple(shifted)),),
        pcrs={HashAlg.SHA256: {**good, **shifted}},
    )
    verdict.refused(client.present(client.attest()))


@attack("A3", "quote.pcr.value-missing")
def test_a_selection_without_the_values_beside_it_covers_nothing(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """The values presented are those of PCRs that were not signed for."""
    client = new_attacker()
    client.device.lie(selections=(PCRSelection(HashAlg.SHA256, tuple(range(12, 23))),))
    verdict.refused(client.present(client.attest()))


@attack("A3", "quote.selection.pcr-range")
@BOTH_KEYS
def test_a_pcr_that_no_tpm_has_is_refused(
    new_attacker: NewAttacker, verdict: Verdict, ak_algorithm: AKAlgorithm
) -> None:
    """A bit for PCR 30 in a bit map of four bytes."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    selection = PCRSelection(HashAlg.SHA256, (*DEMANDED, 30), size_of_select=4)
    client.device.lie(selections=(selection,))
    verdict.refused(client.present(client.attest()))


@attack("A4", "quote.selection.empty")
@pytest.mark.parametrize(
    "selections", [(), (PCRSelection(HashAlg.SHA256, ()),)], ids=["none", "empty-bit-map"]
)
@BOTH_KEYS
def test_a_quote_over_no_pcr_proves_nothing(
    new_attacker: NewAttacker,
    verdict: Verdict,
    selections: tuple[PCRSelection, ...],
    ak_algorithm: AKAlgorithm,
) -> None:
    """The signature is genuine and the digest that of nothing."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    client.device.lie(selections=selections, pcr_digest=HashAlg.SHA256.digest(b""))
    verdict.refused(client.present(client.attest()))


@attack("A5", "quote.pcr.missing")
@BOTH_KEYS
def test_a_demanded_pcr_must_be_in_the_signed_selection(
    new_attacker: NewAttacker, verdict: Verdict, ak_algorithm: AKAlgorithm
) -> None:
    """The value of PCR 7 comes along, but the quote does not cover it."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    without = tuple(pcr for pcr in DEMANDED if pcr != 7)
    client.device.lie(
        selections=(PCRSelection(HashAlg.SHA256, without),),
        pcr_digest=digest_of(client, without),
    )
    verdict.refused(client.present(client.attest()))


@attack("A6", "quote.bank.missing")
@pytest.mark.parametrize("bank", [HashAlg.SHA1, HashAlg.SHA384], ids=lambda bank: bank.label)
@BOTH_KEYS
def test_a_quote_over_another_bank_covers_nothing_demanded(
    new_attacker: NewAttacker, verdict: Verdict, bank: HashAlg, ak_algorithm: AKAlgorithm
) -> None:
    """Only the bank that policy names counts: another may have been left for anybody to fill."""
    boot = simulate_boot(grub_description(), ALL_BANKS)
    client = new_attacker(boot=boot, ak_algorithm=ak_algorithm)
    verdict.refused(client.present(client.attest(replace(client.ask(), pcrs={bank: DEMANDED}))))


@attack("A7", "eventlog.malformed")
@pytest.mark.parametrize("kept", [HashAlg.SHA1, HashAlg.SHA384], ids=lambda bank: bank.label)
def test_an_event_without_a_digest_in_the_demanded_bank_is_refused(
    local_ca: LocalCA, verdict: Verdict, kept: HashAlg
) -> None:
    """An event with a digest in another bank only would be believed on that bank's word."""
    boot = simulate_boot(grub_description(), ALL_BANKS)
    scene = Scene.create(local_ca, boot)
    alone = encode_event(8, EventType.EV_IPL, {kept: bytes(kept.size)}, b"kernel_cmdline: x")
    verdict.refused(scene.decide(log=boot.event_log + alone))


@attack("A7", "eventlog.pcr8.replay-mismatch")
def test_a_bank_that_replays_does_not_speak_for_one_that_does_not(
    local_ca: LocalCA, verdict: Verdict
) -> None:
    """The log leads to the quoted SHA-1 values, and to others in SHA-256."""
    boot = simulate_boot(grub_description(), ALL_BANKS)
    scene = Scene.create(local_ca, boot)
    spoilt = [
        replace(event, digests={**event.digests, HashAlg.SHA256: bytes(32)})
        if event.pcr == 8
        else event
        for event in boot.events
    ]
    verdict.refused(scene.decide(log=encode_event_log(spoilt, ALL_BANKS)))


@attack("A8", "quote.selection.bank-twice")
@BOTH_KEYS
def test_a_bank_listed_twice_is_refused(
    new_attacker: NewAttacker, verdict: Verdict, ak_algorithm: AKAlgorithm
) -> None:
    """Values of one bank could be read in two orders."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    half, rest = DEMANDED[:5], DEMANDED[5:]
    client.device.lie(
        selections=(PCRSelection(HashAlg.SHA256, half), PCRSelection(HashAlg.SHA256, rest))
    )
    verdict.refused(client.present(client.attest()))


@benign("A8")
@BOTH_KEYS
def test_two_banks_are_quoted_in_the_order_of_the_selection(
    new_attacker: NewAttacker, verdict: Verdict, ak_algorithm: AKAlgorithm
) -> None:
    """More than policy demands is no fault, whichever bank comes first."""
    boot = simulate_boot(grub_description(), ALL_BANKS)
    client = new_attacker(boot=boot, ak_algorithm=ak_algorithm)
    pcrs = {HashAlg.SHA384: (0, 7), HashAlg.SHA256: DEMANDED}
    verdict.accepted(client.present(client.attest(replace(client.ask(), pcrs=pcrs))))


@attack("A9", "quote.pcr-digest.mismatch")
@BOTH_KEYS
def test_a_pcr_digest_by_another_hash_is_refused(
    new_attacker: NewAttacker, verdict: Verdict, ak_algorithm: AKAlgorithm
) -> None:
    """The digest is made with the hash of the signing scheme, not with one of the quote's own."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    values = client.device.read_pcrs({HashAlg.SHA256: DEMANDED})[HashAlg.SHA256].values()
    for alg in (HashAlg.SHA1, HashAlg.SHA384):
        client.device.lie(pcr_digest=alg.digest(b"".join(values)))
        verdict.refused(client.present(client.attest()), "quote.pcr-digest.mismatch")


@attack("A9", "quote.pcr-digest.mismatch")
@benign("A9")
def test_the_pcr_digest_follows_the_signing_scheme_and_not_the_bank(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """A key that signs with SHA-384 digests PCR values of the SHA-256 bank with SHA-384."""
    client = new_attacker(enrolled=False)
    node = forging(client)
    node.use_rsa_ak(hash_alg=HashAlg.SHA384)
    node.sign = lambda data: rsa_signature(data, hash_alg=HashAlg.SHA384)
    client.enrol()
    verdict.refused(client.present(client.attest()))
    values = node.read_pcrs({HashAlg.SHA256: DEMANDED})[HashAlg.SHA256].values()
    node.lie(pcr_digest=HashAlg.SHA384.digest(b"".join(values)))
    verdict.accepted(client.present(client.attest()))


@attack("A10", "quote.pcr-digest.mismatch")
@pytest.mark.parametrize("length", [0, 1, 16, 31])
@BOTH_KEYS
def test_a_pcr_digest_is_compared_whole(
    new_attacker: NewAttacker, verdict: Verdict, length: int, ak_algorithm: AKAlgorithm
) -> None:
    """A prefix of the right digest, down to nothing, is not the digest; nor is one of zeros."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    right = digest_of(client, DEMANDED)
    for wrong in (right[:length], bytes(length or 32)):
        client.device.lie(pcr_digest=wrong)
        verdict.refused(client.present(client.attest()), "quote.pcr-digest.mismatch")


# -- A11 to A13: freshness


@attack("A11", "quote.nonce.mismatch")
@pytest.mark.parametrize(
    "alter",
    [
        lambda _: b"",
        lambda data: data[:16],
        lambda data: data[:31] + b"\0",
        lambda data: data + bytes(32),
        lambda _: bytes(32),
    ],
    ids=["empty", "prefix", "last-byte", "zero-padded", "zeros"],
)
@BOTH_KEYS
def test_qualifying_data_is_compared_whole(
    new_attacker: NewAttacker,
    verdict: Verdict,
    alter: Callable[[bytes], bytes],
    ak_algorithm: AKAlgorithm,
) -> None:
    """Neither part of what was demanded, nor more, answers the challenge."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    forging(client).forge = lambda attest: replace(
        attest, extra_data=alter(attest.extra_data)
    ).marshal()
    verdict.refused(client.present(client.attest()))


@attack("A11", "quote.nonce.mismatch")
def test_an_old_quote_does_not_answer_a_new_challenge(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """Good evidence of a minute ago, its binding rewritten for the challenge of now."""
    client = new_attacker()
    old = client.attest()
    client.keep(client.present(old))
    fresh = client.attest()
    verdict.refused(client.present(replace(fresh, quote=old.quote, signature=old.signature)))
    verdict.accepted(client.present(fresh))


@attack("A11", "challenge.spent")
def test_a_challenge_is_answered_once(new_attacker: NewAttacker, verdict: Verdict) -> None:
    """Other evidence for a nonce that was answered gets nothing; two challenges never agree."""
    client = new_attacker()
    first, second = client.ask(), client.ask()
    assert first.nonce != second.nonce
    client.keep(client.present(client.attest(first)))
    verdict.refused(client.present(client.attest(first)))


@attack("A11", "challenge.unknown")
@pytest.mark.parametrize("nonce", [bytes(32), b"\xff" * 32], ids=["zeros", "ones"])
def test_a_nonce_of_ones_own_is_no_challenge(
    new_attacker: NewAttacker, verdict: Verdict, nonce: bytes
) -> None:
    """No constant is ever a challenge."""
    client = new_attacker()
    verdict.refused(client.present(client.attest(replace(client.ask(), nonce=nonce))))


@attack("A11", "challenge.expired")
def test_a_challenge_expires(scene: Scene, verdict: Verdict) -> None:
    """A quote kept for later is too late at the second at which the challenge ends."""
    challenge = scene.challenge()
    evidence = scene.attest(challenge)
    scene.now = challenge.expires_at
    with verdict.refuses():
        scene.verify(evidence, challenge)


@attack("A12", "quote.nonce.mismatch")
@pytest.mark.parametrize(
    "encode",
    [
        base64.b64encode,
        lambda data: base64.urlsafe_b64encode(data).rstrip(b"="),
        lambda data: data.hex().encode(),
        lambda data: data.hex().upper().encode(),
        lambda data: data[::-1],
    ],
    ids=["base64", "base64url", "hex", "upper-hex", "reversed"],
)
def test_qualifying_data_has_one_encoding(
    new_attacker: NewAttacker, verdict: Verdict, encode: Callable[[bytes], bytes]
) -> None:
    """No text form of the right bytes is the right bytes."""
    client = new_attacker()
    forging(client).forge = lambda attest: replace(
        attest, extra_data=encode(attest.extra_data)
    ).marshal()
    verdict.refused(client.present(client.attest()))


@attack("A12", "challenge.unknown")
def test_a_nonce_that_decodes_to_another_is_another(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """A nonce whose bytes read as base64 of something is those bytes and nothing else."""
    client = new_attacker()
    challenge = client.ask()
    text = base64.b64encode(challenge.nonce[:24])
    assert len(text) == 32
    verdict.refused(client.present(client.attest(replace(challenge, nonce=text))))


@attack("A13", "challenge.node.mismatch", "quote.signature.invalid")
@BOTH_KEYS
def test_a_challenge_is_for_one_node(
    new_attacker: NewAttacker, verdict: Verdict, ak_algorithm: AKAlgorithm
) -> None:
    """A nonce set for one node serves no other, in either one's name."""
    one, other = (new_attacker(enrolled=False) for _ in range(2))
    for client in (one, other):
        client.device.replace_ak(ak_algorithm)
        client.enrol()
    evidence = other.attest(one.ask())
    verdict.refused(other.present(evidence), "challenge.node.mismatch")
    verdict.refused(one.present(evidence, one.node), "quote.signature.invalid")


# -- A14 to A18: the signature


def flipped(data: bytes, bit: int) -> bytes:
    """Return ``data`` with one bit the other way."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@attack("A14", "quote.signature.invalid")
@BOTH_KEYS
def test_a_signature_that_does_not_verify_ends_in_no_token(
    new_attacker: NewAttacker, verdict: Verdict, ak_algorithm: AKAlgorithm
) -> None:
    """Whichever bit of signature or quote is flipped; the honest evidence still counts after."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    good = client.attest()
    for bit in (8 * len(good.signature) - 1, 8 * len(good.signature) - 200):
        altered = replace(good, signature=flipped(good.signature, bit))
        verdict.refused(client.present(altered), "quote.signature.invalid")
    firmware_version = 8 * (len(good.quote) - 60)
    altered = replace(good, quote=flipped(good.quote, firmware_version))
    verdict.refused(client.present(altered), "quote.signature.invalid")
    verdict.accepted(client.present(good))


@attack("A14", "quote.signature.invalid")
@pytest.mark.parametrize("length", [0, 1, 2, 4, 40])
def test_no_length_of_signature_passes_unverified(
    new_attacker: NewAttacker, verdict: Verdict, length: int
) -> None:
    """Every way of not being able to verify is a refusal."""
    client = new_attacker()
    good = client.attest()
    verdict.refused(client.present(replace(good, signature=good.signature[:length])))
    verdict.refused(client.present(replace(good, signature=bytes(length))))
    other = new_attacker(enrolled=False)
    stranger = replace(good, signature=other.device.sign_as_ak(good.quote))
    verdict.refused(client.present(stranger), "quote.signature.invalid")


@attack("A15", "quote.signature.scheme-mismatch")
@pytest.mark.parametrize("body", [TPMAlg.RSASSA, TPMAlg.RSAPSS], ids=lambda alg: alg.name)
@pytest.mark.parametrize("scheme", [TPMAlg.RSASSA, TPMAlg.RSAPSS], ids=lambda alg: alg.name)
def test_the_key_says_which_scheme_it_signs_with(
    new_attacker: NewAttacker, verdict: Verdict, scheme: TPMAlg, body: TPMAlg
) -> None:
    """A signature that claims the other scheme is refused, whatever it was made with."""
    client = new_attacker(enrolled=False)
    node = forging(client)
    node.use_rsa_ak(scheme)
    client.enrol()
    other = TPMAlg.RSAPSS if scheme == TPMAlg.RSASSA else TPMAlg.RSASSA
    node.sign = lambda data: rsa_signature(data, header=other, body=body)
    verdict.refused(client.present(client.attest()))


@attack("A15", "quote.signature.invalid")
@pytest.mark.parametrize("scheme", [TPMAlg.RSASSA, TPMAlg.RSAPSS], ids=lambda alg: alg.name)
def test_a_signature_is_of_the_scheme_it_claims(
    new_attacker: NewAttacker, verdict: Verdict, scheme: TPMAlg
) -> None:
    """The header says what the key demands, the body is of the other scheme."""
    client = new_attacker(enrolled=False)
    node = forging(client)
    node.use_rsa_ak(scheme)
    client.enrol()
    other = TPMAlg.RSAPSS if scheme == TPMAlg.RSASSA else TPMAlg.RSASSA
    node.sign = lambda data: rsa_signature(data, header=scheme, body=other)
    verdict.refused(client.present(client.attest()))
    node.sign = lambda data: rsa_signature(data, header=scheme, body=scheme)
    verdict.accepted(client.present(client.attest()))


@attack("A16", "quote.signature.hash-mismatch")
@pytest.mark.parametrize("made_with", [HashAlg.SHA1, HashAlg.SHA256], ids=["genuine", "lie"])
@BOTH_KEYS
def test_a_signature_over_sha1_is_refused(
    new_attacker: NewAttacker, verdict: Verdict, made_with: HashAlg, ak_algorithm: AKAlgorithm
) -> None:
    """The hash is the key's; a signature that names SHA-1 is refused whether or not it is true."""
    client = new_attacker(enrolled=False)
    node = forging(client)
    if ak_algorithm is AKAlgorithm.RSA_2048:
        node.use_rsa_ak()
        node.sign = lambda data: rsa_signature(data, hash_alg=made_with, named=HashAlg.SHA1)
    else:
        node.sign = lambda data: ecdsa_signature(node.ak_key, data, made_with, HashAlg.SHA1)
    client.enrol()
    verdict.refused(client.present(client.attest()))


@attack("A16", "quote.signature.invalid")
@BOTH_KEYS
def test_a_signature_that_lies_about_its_hash_is_refused(
    new_attacker: NewAttacker, verdict: Verdict, ak_algorithm: AKAlgorithm
) -> None:
    """It names SHA-256, as the key demands, and was made over SHA-1."""
    client = new_attacker(enrolled=False)
    node = forging(client)
    if ak_algorithm is AKAlgorithm.RSA_2048:
        node.use_rsa_ak()
        node.sign = lambda data: rsa_signature(data, hash_alg=HashAlg.SHA1, named=HashAlg.SHA256)
    else:
        node.sign = lambda data: ecdsa_signature(node.ak_key, data, HashAlg.SHA1)
    client.enrol()
    verdict.refused(client.present(client.attest()))


@attack("A17", "quote.signature.range")
@pytest.mark.parametrize("case", ["zeros", "empty", "r-plus-n", "s-plus-n", "n"])
def test_ecdsa_numbers_out_of_range_are_refused(
    new_attacker: NewAttacker, verdict: Verdict, case: str
) -> None:
    """Libraries differ on these; here both numbers are between 1 and the order less 1."""
    client = new_attacker()
    node = forging(client)

    def sign(data: bytes) -> bytes:
        r, s = ecdsa_numbers(node.ak_key, data)
        whole = (r + P256_ORDER).to_bytes(33, "big"), (s + P256_ORDER).to_bytes(33, "big")
        cases = {
            "zeros": (bytes(32), bytes(32)),
            "empty": (b"", b""),
            "r-plus-n": (whole[0], as_32_bytes(s)),
            "s-plus-n": (as_32_bytes(r), whole[1]),
            "n": (as_32_bytes(P256_ORDER), as_32_bytes(s)),
        }
        return ecc_signature(*cases[case])

    node.sign = sign
    verdict.refused(client.present(client.attest()))


@attack("A17", "challenge.spent")
@benign("A17")
def test_the_other_form_of_a_signature_gets_no_second_token(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """(r, n-s) verifies wherever (r, s) does: what is spent is the challenge, not the bytes."""
    client = new_attacker()
    node = forging(client)
    good = client.attest()
    r, s = (int.from_bytes(good.signature[at : at + 32], "big") for at in (6, 40))
    negated = ecc_signature(as_32_bytes(r), as_32_bytes(P256_ORDER - s))
    assert negated != good.signature
    verdict.accepted(client.present(replace(good, signature=negated)))
    verdict.refused(client.present(good), "challenge.spent")
    padded = ecc_signature(b"\0" + as_32_bytes(r), as_32_bytes(s))
    verdict.refused(client.present(replace(good, signature=padded)), "challenge.spent")
    node.sign = None


@benign("A17")
def test_leading_zeros_of_a_number_do_not_matter(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """TPMs write the numbers with and without them."""
    client = new_attacker()
    node = forging(client)

    def sign(data: bytes) -> bytes:
        r, s = ecdsa_numbers(node.ak_key, data)
        return ecc_signature(b"\0" + as_32_bytes(r), b"\0" + as_32_bytes(s))

    node.sign = sign
    verdict.accepted(client.present(client.attest()))


@attack("A18", "quote.signature.scheme-refused")
@pytest.mark.parametrize(
    "alg",
    [TPMAlg.NULL, TPMAlg.HMAC, TPMAlg.ECDAA, TPMAlg.ECSCHNORR, TPMAlg.SM2, TPMAlg.RSAES],
    ids=lambda alg: alg.name,
)
@BOTH_KEYS
def test_other_signature_algorithms_prove_nothing(
    new_attacker: NewAttacker, verdict: Verdict, alg: TPMAlg, ak_algorithm: AKAlgorithm
) -> None:
    """None of them is what an attestation key signs with here."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    good = client.attest()
    renamed = int(alg).to_bytes(2, "big") + good.signature[2:]
    verdict.refused(client.present(replace(good, signature=renamed)))


@attack("A18", "quote.signature.scheme-mismatch")
def test_a_signature_of_the_other_kind_of_key_is_refused(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """An ECDSA signature for an RSA key, and the reverse."""
    stranger = ec.generate_private_key(ec.SECP256R1())
    with_ecc = new_attacker()
    with_rsa = new_attacker(enrolled=False)
    forging(with_rsa).use_rsa_ak()
    with_rsa.enrol()
    forging(with_ecc).sign = rsa_signature
    forging(with_rsa).sign = lambda data: ecdsa_signature(stranger, data)
    for client in (with_ecc, with_rsa):
        verdict.refused(client.present(client.attest()), "quote.signature.scheme-mismatch")


# -- A19 to A21: the structure


@attack("A19", MALFORMED)
@pytest.mark.parametrize("surplus", [b"\0", b"\0" * 64, b"\xff\x54\x43\x47"])
@BOTH_KEYS
def test_bytes_after_a_structure_are_refused(
    new_attacker: NewAttacker, verdict: Verdict, surplus: bytes, ak_algorithm: AKAlgorithm
) -> None:
    """Signed or not: what nobody reads could say anything."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    good = client.attest()
    verdict.refused(client.present(replace(good, signature=good.signature + surplus)), MALFORMED)
    verdict.refused(client.present(replace(good, quote=good.quote + surplus)), MALFORMED)
    forging(client).forge = lambda attest: attest.marshal() + surplus
    verdict.refused(client.present(client.attest()), MALFORMED)


def with_body(body: bytes) -> Callable[[TPMSAttest], bytes]:
    """Return a forgery with another TPMS_QUOTE_INFO."""
    return lambda attest: replace(attest, attested=body).marshal()


def quote_body(count: int, alg: int, bit_map: bytes, size: int | None = None) -> bytes:
    """Return a TPMS_QUOTE_INFO whose counts may lie."""
    selection = alg.to_bytes(2, "big") + bytes([len(bit_map) if size is None else size]) + bit_map
    return count.to_bytes(4, "big") + selection + (32).to_bytes(2, "big") + bytes(32)


@attack("A20", MALFORMED)
@pytest.mark.parametrize(
    "body",
    [
        quote_body(0xFFFFFFFF, HashAlg.SHA256, b"\xff\x03\0"),
        quote_body(17, HashAlg.SHA256, b"\xff\x03\0"),
        quote_body(2, HashAlg.SHA256, b"\xff\x03\0"),
        quote_body(1, HashAlg.SHA256, b"\xff\x03\0", size=255),
        quote_body(1, HashAlg.SHA256, b"\xff" * 255),
        quote_body(1, HashAlg.SHA256, b"\xff\x03\0")[:-33] + b"\xff\xff" + bytes(32),
        b"",
    ],
    ids=[
        "2^32-1-selections",
        "17-selections",
        "one-selection-short",
        "bit-map-of-255",
        "bit-map-really-of-255",
        "digest-of-65535",
        "nothing",
    ],
)
@BOTH_KEYS
def test_counts_beyond_the_structure_are_refused(
    new_attacker: NewAttacker, verdict: Verdict, body: bytes, ak_algorithm: AKAlgorithm
) -> None:
    """Nothing is allocated or read by a count that the bytes do not bear out."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    forging(client).forge = with_body(body)
    verdict.refused(client.present(client.attest()))


@attack("A20", MALFORMED)
def test_a_quote_that_is_cut_anywhere_is_refused(scene: Scene, verdict: Verdict) -> None:
    """At each of its bytes."""
    challenge = scene.challenge()
    good = scene.attest(challenge)
    for length in range(len(good.quote)):
        signature = scene.node.sign_as_ak(good.quote[:length])
        cut = replace(good, quote=good.quote[:length], signature=signature)
        with verdict.refuses(MALFORMED):
            scene.verify(cut, challenge)


@pytest.mark.parametrize(
    "bit_map",
    [
        pytest.param(b"", marks=attack("A20", "quote.selection.empty"), id="none"),
        pytest.param(b"\xff\x43", marks=attack("A20", "quote.selection.size"), id="two"),
        pytest.param(b"\xff\x43\0\0", marks=benign("A20"), id="four-with-a-zero"),
    ],
)
def test_the_size_of_a_bit_map(new_attacker: NewAttacker, verdict: Verdict, bit_map: bytes) -> None:
    """Fewer bytes than any PC client TPM writes are refused; a fourth of zeros is legal."""
    client = new_attacker()
    bits = int.from_bytes(bit_map, "little")
    selected = tuple(pcr for pcr in range(24) if bits >> pcr & 1)
    assert len(bit_map) < 3 or selected == DEMANDED
    client.device.lie(
        selections=(PCRSelection(HashAlg.SHA256, selected, size_of_select=len(bit_map)),),
        pcr_digest=digest_of(client, selected),
    )
    answer = client.present(client.attest())
    if len(bit_map) == 4:
        verdict.accepted(answer)
    else:
        verdict.refused(answer)


@attack("A21", MALFORMED)
@pytest.mark.parametrize("safe", [2, 0x80, 0xFF])
@BOTH_KEYS
def test_yes_has_one_spelling(
    new_attacker: NewAttacker, verdict: Verdict, safe: int, ak_algorithm: AKAlgorithm
) -> None:
    """clockInfo.safe is 0 or 1."""
    client = new_attacker(ak_algorithm=ak_algorithm)

    def forge(attest: TPMSAttest) -> bytes:
        data = bytearray(attest.marshal())
        assert isinstance(attest.attested, TPMSQuoteInfo)
        data[-len(attest.attested.marshal()) - 9] = safe
        return bytes(data)

    forging(client).forge = forge
    verdict.refused(client.present(client.attest()))


# -- A22 to A24: counters and names


@attack("A22", "clock.unsafe")
@BOTH_KEYS
def test_an_unsafe_clock_is_refused_where_policy_says_so(
    new_attacker: NewAttacker, verdict: Verdict, ak_algorithm: AKAlgorithm
) -> None:
    """After a power cut the TPM cannot promise that its clock never went back."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    client.device.clock_info = replace(client.device.clock_info, safe=False)
    verdict.refused(client.present(client.attest()))


@benign("A22", "clock.unsafe")
def test_an_unsafe_clock_is_noted_where_policy_says_so(scene: Scene, verdict: Verdict) -> None:
    """Policy weighs it: machines lose their power."""
    scene.use_policy(POLICY.replace('unsafe_clock = "refuse"', 'unsafe_clock = "note"'))
    scene.node.clock_info = replace(scene.node.clock_info, safe=False)
    result = scene.decide()
    verdict.accepted(result, "clock.unsafe")
    assert {each.id for each in result.findings if each.effect is Effect.NOTES} == {"clock.unsafe"}


@attack("A23", "clock.reset-count.rollback")
@BOTH_KEYS
def test_a_reset_counter_that_went_back_is_refused(
    new_attacker: NewAttacker, verdict: Verdict, ak_algorithm: AKAlgorithm
) -> None:
    """Also for a new lineage, and after enrolling again: the mark is kept for the TPM."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    client.device.clock_info = replace(client.device.clock_info, reset_count=40)
    client.renew()
    client.device.clock_info = replace(client.device.clock_info, reset_count=39)
    for _ in range(2):
        client.head = client.challenge = None
        verdict.refused(client.present(client.attest()), "clock.reset-count.rollback")
    client.enrol()
    client.head = client.challenge = None
    verdict.refused(client.present(client.attest()), "clock.reset-count.rollback")


@attack("A23", "clock.restart-count.rollback", "clock.backwards")
def test_the_other_counters_do_not_go_back_either(
    new_attacker: NewAttacker, verdict: Verdict
) -> None:
    """RestartCount within a reset, and the clock within both."""
    client = new_attacker()
    stood = replace(client.device.clock_info, reset_count=5, restart_count=3, clock=10_000_000)
    client.device.clock_info = stood
    client.renew()
    for changes, finding in (
        ({"restart_count": 1}, "clock.restart-count.rollback"),
        ({"clock": 1000}, "clock.backwards"),
    ):
        client.device.clock_info = replace(stood, **changes)  # type: ignore[arg-type]  # its fields
        client.head = client.challenge = None
        verdict.refused(client.present(client.attest()), finding)


@attack("A23", "lineage.boot-changed")
def test_a_lease_is_not_renewed_across_a_reset(
    new_attacker: NewAttacker, verdict: Verdict, good_boot: SimulatedBoot
) -> None:
    """The log is that of the boot before, the quote of the boot after."""
    client = new_attacker()
    client.renew()
    client.device.boot(good_boot)
    verdict.refused(client.present(client.attest()))


@attack("A23", "eventlog.pcr8.replay-mismatch")
def test_the_log_of_another_boot_does_not_fit_the_quote(
    new_attacker: NewAttacker, verdict: Verdict, good_boot: SimulatedBoot
) -> None:
    """The log of a good boot N with the quote of boot N+1, which was another."""
    client = new_attacker()
    changed = grub_description().with_command_line("root=/dev/vda1 init=/bin/sh")
    client.device.boot(simulate_boot(changed))
    verdict.refused(client.present(client.attest(log=good_boot.event_log)))


@attack("A24", "quote.signer.mismatch")
@pytest.mark.parametrize("signer", [b"", b"\0\x0b" + bytes(32)], ids=["empty", "other"])
@BOTH_KEYS
def test_the_quote_names_the_enrolled_key(
    new_attacker: NewAttacker, verdict: Verdict, signer: bytes, ak_algorithm: AKAlgorithm
) -> None:
    """Another qualified name is another place in the TPM, where counters are obfuscated."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    client.device.lie(qualified_signer=signer)
    verdict.refused(client.present(client.attest()))


@benign("A24")
@pytest.mark.parametrize("version", [0, 1, 2**64 - 1])
def test_a_firmware_version_is_told_and_not_compared(
    new_attacker: NewAttacker, verdict: Verdict, version: int
) -> None:
    """No key depends on it: another firmware needs a reset, and that ends the lineage."""
    client = new_attacker()
    client.renew()
    client.device.lie(firmware_version=version)
    verdict.accepted(client.present(client.attest()))


@attack("A25", "request.confirmation-key.mismatch", "request.scope.mismatch")
@BOTH_KEYS
def test_whoever_relays_a_quote_gets_no_token_for_a_key_of_his_own(
    new_attacker: NewAttacker, verdict: Verdict, ak_algorithm: AKAlgorithm
) -> None:
    """Key, scope and audience are in what the TPM signed; the original still counts."""
    victim = new_attacker(ak_algorithm=ak_algorithm)
    thief = new_attacker(enrolled=False)
    relayed = victim.attest()
    key = thief.device.bound_key().certification
    swapped = replace(relayed, leases=(replace(relayed.leases[0], confirmation=key),))
    verdict.refused(victim.present(swapped), "request.confirmation-key.mismatch")
    wider = replace(relayed, leases=(replace(relayed.leases[0], scope=("repo:acme/x",)),))
    verdict.refused(victim.present(wider), "request.scope.mismatch")
    verdict.accepted(victim.present(relayed))


@attack("A26", "quote.type.wrong")
@BOTH_KEYS
def test_a_certification_by_the_same_key_is_no_quote(
    new_attacker: NewAttacker, verdict: Verdict, ak_algorithm: AKAlgorithm
) -> None:
    """Of the right qualifying data, with the AK's genuine signature."""
    client = new_attacker(ak_algorithm=ak_algorithm)
    name = forging(client).ak_area.name
    client.device.lie(type=TPMST.ATTEST_CERTIFY, attested=TPMSCertifyInfo(name, name))
    verdict.refused(client.present(client.attest()))
