"""Sets of files that a node may load: values, file form, canonical form."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError
from bootlease.ima.entry import DigestType, IMADigest
from bootlease.model import HashAlg
from bootlease.reference import (
    IMAReferenceSet,
    ReferenceSet,
    ValueReference,
    kind_of,
    parse_any_canonical_reference,
    parse_any_reference,
    parse_ima_reference,
    serialise_any_reference,
    serialise_ima_reference,
)
from bootlease.reference.imaset import (
    MAX_RULES,
    Origin,
    Scope,
    ScopeKind,
    SignerRule,
    parse_file_digest,
)
from bootlease.testing.local_ca import LocalCA

GOOD = parse_file_digest("sha256:" + "11" * 32)
OTHER = parse_file_digest("sha512:" + "22" * 64)
VERITY = parse_file_digest("verity:sha256:" + "11" * 32)


def spki() -> bytes:
    """A public key."""
    return (
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


SPKI = spki()


def full_set(**changes: Any) -> IMAReferenceSet:
    """A set in which every member is used."""
    members: dict[str, Any] = {
        "name": "web",
        "version": "2026-11",
        "origin": Origin.BUILT,
        "files": {b"/usr/bin/a": (GOOD, OTHER), b"/odd\xff": (VERITY,), b"/line\nfeed": (GOOD,)},
        "buffers": {b"kexec-cmdline": (GOOD,)},
        "content_below": (b"/var/lib/containers/",),
        "signers": {"vendor": SPKI},
        "signed": (SignerRule(Scope(ScopeKind.BELOW, b"/opt/vendor/"), ("vendor",)),),
        "unsafe_exclude": (
            Scope(ScopeKind.BELOW, b"/var/tmp/"),
            Scope(ScopeKind.PATH, b"/x"),
            Scope(ScopeKind.BUFFER, b"y"),
        ),
        "not_before": 1_790_000_000,
        "not_after": 1_800_000_000,
    }
    return IMAReferenceSet(**(members | changes))


def file_of(reference: IMAReferenceSet) -> dict[str, Any]:
    """The members of its file."""
    members: dict[str, Any] = json.loads(serialise_ima_reference(reference))
    return members


def test_a_set_survives_both_of_its_forms() -> None:
    """What is written as a file or in canonical form is read back as the same set."""
    reference = full_set()
    from_file = parse_any_reference(serialise_any_reference(reference))
    from_canonical = parse_any_canonical_reference(reference.encode())
    assert from_file == from_canonical == reference
    assert from_file.encode() == reference.encode()
    assert reference.digest == hashlib.sha256(reference.encode()).digest()
    assert kind_of(from_file) == "ima"


def test_order_does_not_make_another_set() -> None:
    """Paths, digests, signers and rules mean the same in any order."""
    reference = full_set()
    turned = full_set(
        files={path: tuple(reversed(each)) for path, each in reversed([*reference.files.items()])},
        unsafe_exclude=tuple(reversed(reference.unsafe_exclude)),
    )
    assert turned.digest == reference.digest


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"version": "2"},
        {"origin": Origin.LEARNED},
        {"files": {b"/usr/bin/a": (GOOD,)}},
        {"buffers": {}},
        {"content_below": ()},
        {"signers": {}, "signed": ()},
        {"unsafe_exclude": ()},
        {"not_before": None},
        {"not_after": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_member_counts_in_the_digest(change: dict[str, Any]) -> None:
    """Two sets that differ in one member have different digests and are different sets."""
    assert full_set(**change) != full_set()


def test_boot_sets_are_still_read() -> None:
    """A file that says no kind is about a boot, in both forms."""
    boot = ReferenceSet("web", "1", HashAlg.SHA256, {4: ValueReference((bytes(32),))})
    assert parse_any_reference(serialise_any_reference(boot)) == boot
    assert parse_any_canonical_reference(boot.encode()) == boot
    assert kind_of(boot) == "boot"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sha1:" + "11" * 20, "does not tell files apart"),
        ("md5:" + "11" * 16, "does not tell files apart"),
        ("verity:sha384:" + "11" * 48, "does not tell files apart"),
        ("ima:sha256:" + "11" * 32, "is no digest"),
        ("sha256:" + "11" * 31, "has 32 bytes"),
        ("sha256:" + "AA" * 32, "is no digest"),
        ("11" * 32, "does not tell files apart"),
        ("", "is no digest"),
    ],
)
def test_a_digest_names_a_sound_hash_and_fits_it(text: str, why: str) -> None:
    """A digest of a broken hash, of another length or of unclear form is refused (E11)."""
    with pytest.raises(ValueError, match=why):
        parse_file_digest(text)


def test_a_digest_is_never_that_of_another_kind() -> None:
    """Equal bytes under another algorithm or over an fs-verity descriptor are another digest."""
    assert GOOD.value == VERITY.value
    assert GOOD != VERITY
    assert str(VERITY) == "verity:sha256:" + "11" * 32


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"files": {b"/a b": (GOOD,)}}, "measures a space as _"),
        ({"files": {b"": (GOOD,)}}, "is no path"),
        ({"files": {b"/a\0": (GOOD,)}}, "is no path"),
        ({"files": {b"/a": ()}}, "needs 1 to"),
        ({"files": {b"/a": (GOOD, GOOD)}}, "lists a digest twice"),
        ({"files": {b"/a": (IMADigest(DigestType.IMA, "sha1", bytes(20)),)}}, "tell files apart"),
        ({"content_below": (b"/",)}, "every file there is"),
        ({"content_below": (b"/a",)}, "begin and end with /"),
        ({"content_below": (b"a/",)}, "begin and end with /"),
        ({"content_below": (b"/a/", b"/a/")}, "twice"),
        ({"content_below": (b"/a/../b/",)}, "no kernel writes"),
        ({"content_below": (b"/a//",)}, "no kernel writes"),
        ({"files": {}}, "content_below needs files"),
        ({"signers": {}}, "has no key"),
        ({"signed": ()}, "no rule names"),
        ({"signers": {"vendor": SPKI, "twin": SPKI}}, "two signers"),
        ({"signers": {"vendor": b"no key"}}, "cannot be read"),
        ({"unsafe_exclude": (Scope(ScopeKind.PATH, b"/usr/bin/a"),)}, "listed and excluded"),
        ({"unsafe_exclude": (Scope(ScopeKind.BUFFER, b"kexec-cmdline"),)}, "listed and excluded"),
        ({"not_after": 1}, "before not_before"),
        ({"name": "Web"}, "no reference name"),
        ({"version": ""}, "no version"),
        (
            {
                "unsafe_exclude": tuple(
                    Scope(ScopeKind.PATH, b"/%d" % number) for number in range(MAX_RULES + 1)
                )
            },
            "more than",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_set_that_cannot_mean_what_it_says_is_no_set(change: dict[str, Any], why: str) -> None:
    """Each rule of construction refuses what breaks only it."""
    with pytest.raises(ValueError, match=why):
        full_set(**change)


def test_an_empty_set_is_none() -> None:
    """A set that lists nothing and trusts nobody is an error, never everything or nothing."""
    with pytest.raises(ValueError, match="lists a file or buffer, or trusts a signer"):
        IMAReferenceSet("web", "1", Origin.BUILT, {})


@pytest.mark.parametrize("path", [b"/", b"//", b"/.", b"/../"])
def test_no_exclusion_covers_everything(path: bytes) -> None:
    """What is not judged cannot be the whole tree, in any spelling (E8)."""
    with pytest.raises(ValueError, match="below"):
        Scope(ScopeKind.BELOW, path)


@pytest.mark.parametrize(
    ("path", "covered"),
    [
        (b"/opt/vendor/bin/x", True),
        (b"/opt/vendor/", True),
        (b"/opt/vendor/bin/..x", True),
        (b"/opt/vendor", False),
        (b"/opt/vendorx/bin", False),
        (b"/opt/vendor/../../tmp/x", False),
        (b"/opt/vendor/./x", False),
        (b"/opt/vendor//x", False),
        (b"/opt/vendor/x/..", False),
        (b"//opt/vendor/x", False),
        (b"/OPT/vendor/x", False),
    ],
)
def test_a_tree_covers_what_begins_with_it(path: bytes, covered: bool) -> None:  # noqa: FBT001 - a table
    """A rule for a tree compares bytes, and holds for no path with an odd component (E6)."""
    assert Scope(ScopeKind.BELOW, b"/opt/vendor/").covers(path) is covered


def test_star_and_regex_are_literal_bytes() -> None:
    """No character of a path is a pattern."""
    assert not Scope(ScopeKind.PATH, b"/usr/*").covers(b"/usr/a")
    assert Scope(ScopeKind.PATH, b"/usr/*").covers(b"/usr/*")
    assert not Scope(ScopeKind.BELOW, b"/u.r/").covers(b"/usr/a")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"schema": 2}, "schema must be 1"),
        ({"schema": True}, "schema must be 1"),
        ({"kind": "imb"}, 'kind "ima"'),
        ({"extra": 1}, "unknown member 'extra'"),
        ({"origin": "golden"}, "not a valid Origin"),
        ({"files": []}, "files must be an object"),
        ({"files": {"/a": "sha256:11"}}, "must be an array"),
        ({"files": {"/a": [1]}}, "must be text"),
        ({"files": {"/a": ["sha256:11"]}}, "has 32 bytes"),
        ({"hex_files": {"2F": [str(GOOD)]}}, "lower-case hex"),
        ({"hex_files": {"2f61": [str(GOOD)]}}, "list it in files"),
        ({"hex_files": {}}, "leave it out"),
        ({"buffers": {}}, "leave it out"),
        ({"signers": {"vendor": "!"}}, "no base64"),
        ({"signers": {"vendor": base64.b64encode(SPKI).decode() + "\n"}}, "no base64"),
        ({"signed": [{"below": "/a/"}]}, "another form"),
        ({"signed": [{"below": "/a/", "path": "/a", "by": ["vendor"]}]}, "another form"),
        ({"signed": [{"under": "/a/", "by": ["vendor"]}]}, "signed is by"),
        ({"signed": [{"buffer": "a", "by": ["vendor"]}]}, "carries no signature"),
        ({"unsafe_exclude": [{"glob": "/*"}]}, "unsafe_exclude is by"),
        ({"unsafe_exclude": ["/a"]}, "another form"),
        ({"exclude": [{"below": "/a/"}]}, "unknown member 'exclude'"),
        ({"not_after": -1}, "seconds since the epoch"),
        ({"not_after": "soon"}, "seconds since the epoch"),
        ({"files": {"/\ud800": [str(GOOD)]}}, "IMA reference|JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_with_a_mistake_is_refused(change: dict[str, Any], why: str) -> None:
    """Each mistake in the file form is an error that names it."""
    data = json.dumps(file_of(full_set()) | change).encode()
    with pytest.raises(MalformedError, match=why):
        parse_ima_reference(data)


@pytest.mark.parametrize("name", ["schema", "kind", "name", "version", "origin", "files"])
def test_a_missing_member_is_an_error(name: str) -> None:
    """Nothing that must be said has a default."""
    members = file_of(full_set())
    del members[name]
    with pytest.raises(MalformedError):
        parse_any_reference(json.dumps(members).encode())


def test_a_repeated_path_is_an_error() -> None:
    """One path with two lists of digests is refused, not merged or overwritten."""
    text = serialise_ima_reference(full_set()).decode()
    doubled = text.replace('"/usr/bin/a":', f'"/usr/bin/a": ["{GOOD}"], "/usr/bin/a":')
    with pytest.raises(MalformedError, match="repeated"):
        parse_ima_reference(doubled.encode())


def test_canonical_bytes_have_one_form() -> None:
    """Members out of order, another type and bytes to spare are refused."""
    encoded = full_set().encode()
    with pytest.raises(MalformedError):
        parse_any_canonical_reference(encoded + b"\0")
    decoded = cbor.decode(encoded, max_bytes=1 << 20)
    decoded["files"].reverse()
    with pytest.raises(MalformedError, match="canonical form"):
        parse_any_canonical_reference(cbor.encode(decoded))
    decoded["files"] = [decoded["files"][0], decoded["files"][0]]
    with pytest.raises(MalformedError, match="twice"):
        parse_any_canonical_reference(cbor.encode(decoded))


paths = st.binary(min_size=1, max_size=40).filter(lambda path: not {0, 32} & {*path})
digests = st.sampled_from([GOOD, OTHER, VERITY])


@given(
    st.dictionaries(paths, st.lists(digests, min_size=1, unique=True).map(tuple), min_size=1),
    st.sampled_from(Origin),
)
def test_any_path_survives_both_forms(
    files: dict[bytes, tuple[IMADigest, ...]], origin: Origin
) -> None:
    """Whatever the bytes of its paths, a set is read back as itself from both of its forms."""
    reference = IMAReferenceSet("web", "1", origin, files)
    assert parse_any_reference(serialise_any_reference(reference)) == reference
    assert parse_any_canonical_reference(reference.encode()) == reference


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(file_of(full_set()))), json_values)
def test_any_member_parses_or_is_malformed(name: str, value: object) -> None:
    """Whatever stands in a member, the file is read or malformed, and nothing else happens."""
    data = json.dumps(file_of(full_set()) | {name: value}).encode()
    try:
        parse_any_reference(data)
    except MalformedError:
        return


@given(st.binary(max_size=64), st.integers(0, 2000))
def test_any_canonical_bytes_parse_or_are_malformed(noise: bytes, place: int) -> None:
    """Whatever overwrites the canonical form, it is read or malformed, and nothing else."""
    encoded = full_set().encode()
    place %= len(encoded)
    data = encoded[:place] + noise + encoded[place + len(noise) :]
    try:
        assert parse_any_canonical_reference(data).encode() == data
    except MalformedError:
        return


def test_a_set_can_be_made_anew_with_a_change() -> None:
    """``dataclasses.replace`` gives a set with its own digest."""
    assert replace(full_set(), version="3").digest == full_set(version="3").digest


def test_a_signer_may_be_given_by_a_certificate(local_ca: LocalCA) -> None:
    """Kernels name signers by the key id of their certificate, so a certificate will do."""
    der = local_ca.root.public_bytes(serialization.Encoding.DER)
    reference = full_set(signers={"vendor": der})
    extension = local_ca.root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert extension.value.digest[-4:] in reference.file_signer("vendor").key_ids
    assert parse_any_reference(serialise_any_reference(reference)) == reference
