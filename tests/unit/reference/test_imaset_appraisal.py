"""What a system loaded, compared with sets of good files."""

from __future__ import annotations

import hashlib
import struct
import tracemalloc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bootlease.ima.entry import DigestType, IMADigest, IMAEntry
from bootlease.model import Effect
from bootlease.reference import (
    IMAOutcome,
    IMAReferenceSet,
    IMASignatures,
    appraise_entries,
    imamatch,
)
from bootlease.reference.imafindings import MAX_NAMED
from bootlease.reference.imaset import Origin, Scope, ScopeKind, SignerRule

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW: Final = 1_790_000_000
VENDOR = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())
CONTENT: Final = hashlib.sha256(b"good").digest()
EVIL: Final = hashlib.sha256(b"evil").digest()


@dataclass(frozen=True)
class Demands:
    """A policy's demands."""

    unlisted: Effect = Effect.REFUSES
    violations: Effect = Effect.REFUSES
    signatures: IMASignatures = IMASignatures.IGNORED


def sha256(value: bytes) -> IMADigest:
    """A digest over a file."""
    return IMADigest(DigestType.IMA, "sha256", value)


def field(value: bytes) -> bytes:
    """A field of template data."""
    return struct.pack("<I", len(value)) + value


def entry(
    path: bytes,
    digest: bytes = CONTENT,
    *more: bytes,
    template: bytes = b"ima-ng",
    label: bytes = b"sha256:\0",
    number: int = 1,
    violation: bool = False,
) -> IMAEntry:
    """An entry as the kernel writes it."""
    data = b"".join(map(field, (label + digest, path + b"\0", *more)))
    return IMAEntry(number, 10, template, bytes(20) if violation else b"\1" * 20, data)


def signature(digest: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """A ``security.ima`` of version 2."""
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed  # noqa: PLC0415

    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest[-4:]
    made = key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    return struct.pack(">BBB4sH", 3, 2, 4, key_id, len(made)) + made


def signed(path: bytes, digest: bytes, key: ec.EllipticCurvePrivateKey) -> IMAEntry:
    """An entry that carries its file's signature."""
    return entry(path, digest, signature(digest, key), template=b"ima-sig")


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public key's DER."""
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def reference(**members: Any) -> IMAReferenceSet:
    """A set that lists one file."""
    files = {b"/usr/bin/a": (sha256(CONTENT),)}
    plain: dict[str, Any] = {"name": "web", "version": "1", "origin": Origin.BUILT, "files": files}
    return IMAReferenceSet(**(plain | members))


def trusting(**members: Any) -> IMAReferenceSet:
    """A set that trusts the vendor below one tree."""
    rule = SignerRule(Scope(ScopeKind.BELOW, b"/opt/vendor/"), ("vendor",))
    return reference(signers={"vendor": spki(VENDOR)}, signed=(rule,), **members)


def appraise(
    *entries: IMAEntry,
    sets: tuple[IMAReferenceSet, ...] | None = None,
    demands: Demands | None = None,
    aggregates: dict[str, bytes] | None = None,
) -> IMAOutcome:
    """Appraise entries by one plain set, unless another is given."""
    return appraise_entries(
        entries,
        (reference(),) if sets is None else sets,
        demands or Demands(),
        now=NOW,
        boot_aggregates=aggregates or {},
    )


def ids(outcome: IMAOutcome) -> list[str]:
    """The ids of its findings."""
    return [finding.id for finding in outcome.findings]


def test_a_listed_file_is_good() -> None:
    """A file with a listed path and digest leaves no finding, and is counted."""
    outcome = appraise(entry(b"/usr/bin/a"))
    assert outcome == IMAOutcome((), 1, 0, (reference().digest,))


def test_a_file_that_nobody_lists_is_unlisted() -> None:
    """A path of no set is a finding of its own, which names file, digest, entry and PCR."""
    (finding,) = appraise(entry(b"/srv/evil", EVIL, number=7)).findings
    assert finding.id == "ima.file.unlisted"
    assert "/srv/evil" in finding.message
    assert (finding.pcr, finding.event, finding.effect) == (10, 7, Effect.REFUSES)
    assert finding.seen == f"sha256:{EVIL.hex()}"


def test_the_policy_decides_what_unlisted_files_do() -> None:
    """Unlisted files are noted where the policy says so."""
    outcome = appraise(entry(b"/tmp/x"), demands=Demands(unlisted=Effect.NOTES))
    assert [finding.effect for finding in outcome.findings] == [Effect.NOTES]


def test_a_changed_file_refuses_whatever_the_policy_says_of_unlisted_ones() -> None:
    """A listed path with other content is never waved through, and says what was expected."""
    (finding,) = appraise(
        entry(b"/usr/bin/a", EVIL), demands=Demands(unlisted=Effect.NOTES)
    ).findings
    assert finding.id == "ima.file.digest-mismatch"
    assert finding.effect is Effect.REFUSES
    assert finding.expected == f"sha256:{CONTENT.hex()}"


@pytest.mark.parametrize(
    "other",
    [
        entry(b"/usr/bin/a", CONTENT, template=b"ima-ngv2", label=b"verity:sha256:\0"),
        entry(b"/usr/bin/a", CONTENT, label=b"sha3-256:\0"),
        entry(b"/usr/bin/a", CONTENT[:20], label=b"sha1:\0"),
    ],
    ids=["verity", "sha3", "sha1"],
)
def test_no_digest_is_compared_across_algorithms(other: IMAEntry) -> None:
    """Equal bytes under another algorithm, or of a Merkle tree, are not the listed digest (E11)."""
    assert ids(appraise(other)) == ["ima.file.algorithm-mismatch"]


def test_the_older_and_the_newer_name_of_one_digest_are_one() -> None:
    """``ima:sha256:`` of template ima-ngv2 is the same digest as ``sha256:`` of ima-ng."""
    assert not ids(appraise(entry(b"/usr/bin/a", template=b"ima-ngv2", label=b"ima:sha256:\0")))


@pytest.mark.parametrize(
    "path",
    [
        *(b"/usr/bin//a", b"/usr/bin/./a", b"/usr/bin/../bin/a", b"/usr/bin/a/", b"usr/bin/a"),
        *(b"/usr/bin/a\n", b"/usr/bin/a_", b"/usr/bin/A", b"//usr/bin/a", b"/usr/bin/a(deleted)"),
        *(b"/merged/usr/bin/a", b"a", b"/usr/bin/\xc3\xa1"),
    ],
)
def test_no_spelling_of_a_path_is_another(path: bytes) -> None:
    """A path is good as listed, byte for byte (E6)."""
    assert ids(appraise(entry(path))) == ["ima.file.unlisted"]


def test_a_hostile_name_is_shown_escaped() -> None:
    """Line feeds and terminal codes of a name do not reach the operator's screen."""
    (finding,) = appraise(entry(b"/x\n[ok]\x1b[31m\xff")).findings
    assert "\\x0a[ok]\\x1b[31m\\xff" in finding.message
    assert finding.message.isprintable()


def test_a_long_name_is_cut() -> None:
    """A name of thousands of bytes does not fill the record."""
    (finding,) = appraise(entry(b"/" + b"\x01" * 4000)).findings
    assert len(finding.message) < 2000


def test_several_sets_live_at_once() -> None:
    """During an update the old and the new file are good, and still no third."""
    new = reference(version="2", files={b"/usr/bin/a": (sha256(EVIL),)})
    sets = (reference(), new)
    both = appraise(entry(b"/usr/bin/a"), entry(b"/usr/bin/a", EVIL), sets=sets)
    assert not both.findings
    assert both.considered == (sets[0].digest, new.digest)
    (finding,) = appraise(entry(b"/usr/bin/a", bytes(32)), sets=sets).findings
    assert finding.expected == f"sha256:{CONTENT.hex()}, sha256:{EVIL.hex()}"


def test_a_set_outside_its_validity_counts_for_nothing() -> None:
    """An expired set is noted, and what only it lists is unlisted."""
    old = reference(not_after=NOW - 1)
    other = reference(version="2", files={b"/b": (sha256(CONTENT),)})
    outcome = appraise(entry(b"/usr/bin/a"), sets=(old, other))
    assert ids(outcome) == ["ima.reference.not-valid", "ima.file.unlisted"]
    assert outcome.findings[0].effect is Effect.NOTES


def test_no_valid_set_refuses_even_an_empty_list() -> None:
    """Without a valid set nothing is accepted, not even nothing."""
    assert ids(appraise(sets=())) == ["ima.reference.none"]
    assert ids(appraise(sets=(reference(not_before=NOW + 1),))) == [
        "ima.reference.not-valid",
        "ima.reference.none",
    ]


def test_a_violation_is_its_own_finding() -> None:
    """A violation is neither a listed nor an unlisted file (E2)."""
    outcome = appraise(
        entry(b"/usr/bin/a", violation=True), demands=Demands(violations=Effect.NOTES)
    )
    assert [(finding.id, finding.effect) for finding in outcome.findings] == [
        ("ima.violation", Effect.NOTES)
    ]
    assert "not attested" in outcome.findings[0].message


def test_no_exclusion_hides_a_violation() -> None:
    """A violation's name is hearsay, so an excluded name does not excuse it."""
    excluding = reference(unsafe_exclude=(Scope(ScopeKind.BELOW, b"/var/log/"),))
    outcome = appraise(entry(b"/var/log/syslog", violation=True), sets=(excluding,))
    assert ids(outcome) == ["ima.violation"]


@pytest.mark.parametrize(
    ("scope", "path", "left_alone"),
    [
        (Scope(ScopeKind.BELOW, b"/var/tmp/"), b"/var/tmp/x", True),
        (Scope(ScopeKind.BELOW, b"/var/tmp/"), b"/var/tmpx", False),
        (Scope(ScopeKind.BELOW, b"/var/tmp/"), b"/var/tmp/../../bin/sh", False),
        (Scope(ScopeKind.PATH, b"/var/x"), b"/var/x", True),
        (Scope(ScopeKind.PATH, b"/var/x"), b"/var/x/y", False),
        (Scope(ScopeKind.BUFFER, b"/var/x"), b"/var/x", False),
    ],
)
def test_an_exclusion_covers_what_it_says_and_is_noted(
    scope: Scope,
    path: bytes,
    left_alone: bool,  # noqa: FBT001 - a table
) -> None:
    """What a set excludes is not judged, is counted, and is said (E8)."""
    outcome = appraise(entry(path, EVIL), sets=(reference(unsafe_exclude=(scope,)),))
    assert outcome.excluded == left_alone
    assert ids(outcome) == ["ima.file.excluded" if left_alone else "ima.file.unlisted"]


def test_a_listed_file_in_an_excluded_tree_is_judged() -> None:
    """Within one set, listing a path outweighs excluding the tree around it."""
    excluding = reference(unsafe_exclude=(Scope(ScopeKind.BELOW, b"/usr/"),))
    assert ids(appraise(entry(b"/usr/bin/a", EVIL), sets=(excluding,))) == [
        "ima.file.digest-mismatch"
    ]


def test_copies_are_good_only_where_the_set_says() -> None:
    """Known content is good below the named trees, under a name that is not listed otherwise."""
    copying = reference(
        files={b"/usr/bin/a": (sha256(CONTENT),), b"/c/listed": (sha256(EVIL),)},
        content_below=(b"/c/",),
    )
    assert not ids(appraise(entry(b"/c/layer/bin/a"), sets=(copying,)))
    assert ids(appraise(entry(b"/d/bin/a"), sets=(copying,))) == ["ima.file.unlisted"]
    assert ids(appraise(entry(b"/c/layer/x", bytes(32)), sets=(copying,))) == ["ima.file.unlisted"]
    assert ids(appraise(entry(b"/c/../d", CONTENT), sets=(copying,))) == ["ima.file.unlisted"]
    assert ids(appraise(entry(b"/c/listed"), sets=(copying,))) == ["ima.file.digest-mismatch"]


def test_buffers_and_files_are_two_worlds() -> None:
    """A measured command line is judged by the listed buffers, a file never by them."""
    line = b"root=/dev/vda quiet"
    digest = hashlib.sha256(line).digest()
    sets = (reference(buffers={b"kexec-cmdline": (sha256(digest),)}),)
    buffer = entry(b"kexec-cmdline", digest, line, template=b"ima-buf")
    assert not ids(appraise(buffer, sets=sets))
    assert ids(appraise(entry(b"kexec-cmdline", digest), sets=sets)) == ["ima.file.unlisted"]
    other = entry(b"kexec-cmdline", EVIL, b"evil", template=b"ima-buf")
    assert ids(appraise(other, sets=sets)) == ["ima.buffer.digest-mismatch"]
    unknown = entry(b".ima", EVIL, b"evil", template=b"ima-buf")
    assert ids(appraise(unknown, sets=sets)) == ["ima.buffer.unlisted"]
    alone = reference(unsafe_exclude=(Scope(ScopeKind.BUFFER, b".ima"),))
    assert ids(appraise(unknown, sets=(alone,))) == ["ima.file.excluded"]


def test_the_boot_aggregate_is_left_to_the_quote() -> None:
    """An entry named boot_aggregate passes with the digest of the quoted PCRs, with no other."""
    aggregate = entry(b"boot_aggregate", EVIL, number=0)
    assert not ids(appraise(aggregate, aggregates={"sha256": EVIL}))
    assert ids(appraise(aggregate, aggregates={"sha256": CONTENT})) == ["ima.file.unlisted"]
    assert ids(appraise(aggregate)) == ["ima.file.unlisted"]
    verity = entry(b"boot_aggregate", EVIL, template=b"ima-ngv2", label=b"verity:sha256:\0")
    assert ids(appraise(verity, aggregates={"sha256": EVIL})) == ["ima.file.unlisted"]


@pytest.mark.parametrize(
    "altered",
    [
        entry(b"/usr/bin/a", template=b"ima-sig"),
        entry(b"/usr/bin/a", template=b"unheard-of"),
        entry(b"/usr/bin/a", template=b"d-modsig|n-ng"),
        entry(b"/usr/bin/a", template=b"n-ng|d-ng"),
        entry(
            b"/usr/bin/a",
            b"",
            b"",
            b"sha256:\0" + CONTENT,
            b"sig",
            template=b"d-modsig|n-ng|sig|d-ng|modsig",
        ),
        entry(b"/usr/bin/a", CONTENT[:-1]),
    ],
    ids=["too-few", "unknown", "no-digest", "turned", "swapped", "short"],
)
def test_what_cannot_be_read_refuses(altered: IMAEntry) -> None:
    """A template's name is attested by nothing: altering it never helps (E10)."""
    outcome = appraise(altered, demands=Demands(unlisted=Effect.NOTES))
    assert ids(outcome) == ["ima.entry.unreadable"]
    assert outcome.findings[0].effect is Effect.REFUSES


@pytest.mark.parametrize(
    "template",
    [
        b"d-ngv2|n-ng|sig|d-ng|buf",
        b"d-ngv2|n-ng|sig|d-ng|modsig",
        b"d-ng|sig|n-ng|d-modsig|modsig",
        b"d-ng|n|n-ng|d-modsig|modsig",
        b"d-ng|n-ng|n|d-modsig|modsig",
    ],
)
def test_no_name_of_a_template_swaps_digests_or_names(template: bytes) -> None:
    """E10: of an entry whose template nobody attests, the first two fields are what they are.

    The file that was loaded is a good one with bytes of somebody's choice appended to it; in the
    third field stands what its owner put into an extended attribute.
    """
    more = (b"/usr/bin/a\0", b"sha256:\0" + CONTENT, b"\x30\x00")
    seen = entry(b"/usr/bin/a", EVIL, *more, template=b"ima-modsig")
    assert ids(appraise(seen)) == ["ima.file.digest-mismatch"]
    assert ids(appraise(seen._replace(template=template))) == ["ima.entry.unreadable"]


def test_signatures_count_for_nothing_unless_the_policy_says() -> None:
    """A good signature does not make a file good where signatures are ignored."""
    outcome = appraise(signed(b"/opt/vendor/x", EVIL, VENDOR), sets=(trusting(),))
    assert ids(outcome) == ["ima.file.unlisted"]


def test_a_good_signature_suffices_where_a_rule_says_whose() -> None:
    """Where policy lets it, a signer's file is good below the signer's tree."""
    sufficient = Demands(signatures=IMASignatures.SUFFICIENT)
    good = signed(b"/opt/vendor/x", EVIL, VENDOR)
    assert not ids(appraise(good, sets=(trusting(),), demands=sufficient))
    listed = trusting(files={b"/opt/vendor/x": (sha256(CONTENT),)})
    assert not ids(appraise(good, sets=(listed,), demands=sufficient))


@pytest.mark.parametrize(
    ("seen", "findings"),
    [
        (signed(b"/usr/bin/x", EVIL, VENDOR), ["ima.file.unlisted"]),
        (signed(b"/opt/vendor/../x", EVIL, VENDOR), ["ima.file.unlisted"]),
        (
            signed(b"/opt/vendor/x", EVIL, STRANGER),
            ["ima.file.unlisted", "ima.signature.unknown-key"],
        ),
        (
            entry(b"/opt/vendor/x", EVIL, signature(CONTENT, VENDOR), template=b"ima-sig"),
            ["ima.file.unlisted", "ima.signature.invalid"],
        ),
        (entry(b"/opt/vendor/x", EVIL), ["ima.file.unlisted", "ima.signature.missing"]),
    ],
    ids=["elsewhere", "dotted", "stranger", "other-content", "unsigned"],
)
def test_a_signature_that_does_not_count_is_said(seen: IMAEntry, findings: list[str]) -> None:
    """A signature must verify, under a key of the rule that covers the path (E9)."""
    outcome = appraise(
        seen, sets=(trusting(),), demands=Demands(signatures=IMASignatures.SUFFICIENT)
    )
    assert ids(outcome) == findings


def test_not_every_bad_signature_of_a_list_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many that do not hold, the rest costs no more, and its files are refused."""
    monkeypatch.setattr(imamatch, "MAX_FAILED_SIGNATURES", 2)
    bad = [
        entry(f"/opt/vendor/{name}".encode(), EVIL, signature(CONTENT, VENDOR), template=b"ima-sig")
        for name in "abc"
    ]
    good = signed(b"/opt/vendor/x", EVIL, VENDOR)
    outcome = appraise(
        *bad, good, sets=(trusting(),), demands=Demands(signatures=IMASignatures.SUFFICIENT)
    )
    assert ids(outcome) == [
        *["ima.file.unlisted"] * 4,
        *["ima.signature.invalid"] * 2,
        *["ima.signature.unchecked"] * 2,
    ]


def test_required_signatures_are_demanded_of_listed_files_too() -> None:
    """Where policy demands both, neither a digest nor a signature is enough alone."""
    required = Demands(signatures=IMASignatures.REQUIRED)
    sets = (trusting(files={b"/opt/vendor/x": (sha256(CONTENT),), b"/b": (sha256(CONTENT),)}),)
    good = signed(b"/opt/vendor/x", CONTENT, VENDOR)
    assert not ids(appraise(good, sets=sets, demands=required))
    unsigned = entry(b"/opt/vendor/x")
    assert ids(appraise(unsigned, sets=sets, demands=required)) == ["ima.signature.missing"]
    nobody = signed(b"/b", CONTENT, VENDOR)
    assert ids(appraise(nobody, sets=sets, demands=required)) == ["ima.signature.no-signer"]
    unlisted = signed(b"/opt/vendor/y", CONTENT, VENDOR)
    assert ids(appraise(unlisted, sets=sets, demands=required)) == ["ima.file.unlisted"]
    copies = (trusting(content_below=(b"/opt/vendor/",)),)
    assert not ids(appraise(unlisted, sets=copies, demands=required))
    copy = entry(b"/opt/vendor/y")
    assert ids(appraise(copy, sets=copies, demands=required)) == ["ima.signature.missing"]


def test_findings_are_bounded_and_counted() -> None:
    """A long list of bad files names the first few and counts the rest, in bounded memory."""
    count = 50_000

    def entries() -> Iterator[IMAEntry]:
        for number in range(count):
            yield entry(b"/tmp/%d" % number, number=number)

    tracemalloc.start()
    outcome = appraise_entries(entries(), (reference(),), Demands(), now=NOW)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outcome.entries == count
    assert len(outcome.findings) == MAX_NAMED + 1
    assert outcome.findings[-1].id == "ima.file.unlisted-more"
    assert f"{count - MAX_NAMED} further entries" in outcome.findings[-1].message
    assert outcome.findings[-1].effect is Effect.REFUSES
    assert peak < 1 << 20


def test_the_same_file_is_named_once() -> None:
    """An entry that comes again adds no finding."""
    assert ids(appraise(*[entry(b"/tmp/x")] * 100)) == ["ima.file.unlisted"]
