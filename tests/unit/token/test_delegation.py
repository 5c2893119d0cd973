"""Chains of grants: none goes beyond the one before, and every altered one is refused."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease import cbor
from bootlease.errors import MalformedError, VerificationError
from bootlease.testing.chains import (
    KEYS,
    Wish,
    chain,
    chain_head,
    lease_id_of,
    narrowed,
    pass_on,
    root_claims,
    sign_wish,
    with_links,
)
from bootlease.testing.tokens import NOW, fixed_signer
from bootlease.token import ExecutionClaims, PrivateKeySigner, base64url, strictjson
from bootlease.token.delegation import (
    Delegation,
    DelegationLink,
    VerifiedChain,
    holding_of,
    verify_chain,
)
from bootlease.token.grants import (
    GRANT_TYP,
    MAX_DEPTH,
    MAX_GRANT,
    make_grant,
    parse_grant,
    verify_grant,
)
from bootlease.token.jws import encode_header, sign_compact, verify_compact

CHAINS: Final = 10_000
SEED: Final = 20261123
STRANGER: Final = fixed_signer(99)


def ids(claims: ExecutionClaims) -> list[str]:
    """Return what is found in a chain, none where it holds."""
    try:
        verify_chain(claims)
    except VerificationError as exc:
        return [finding.id for finding in exc.findings]
    return []


# -- 10,000 random chains, judged by an oracle that shares nothing with the code

NAMES: Final = ("tool:a", "tool:b", "repo:x/1", "repo:x/2", "repo:y/1", "repo:x/1/2")
BRANCHES: Final = ("tool:*", "repo:*", "repo:x/*", "repo:y/*")
WORLD: Final = (*NAMES, "tool:zz", "repo:zz", "repo:x/zz", "repo:y/zz", "repo:x/1/zz")
"""Everything that a name may stand for; what ends in ``zz`` only a wildcard reaches."""


def meant(names: Sequence[str]) -> set[str]:
    """Return what scope names stand for, one by one."""
    return {
        thing
        for thing in WORLD
        for name in names
        if thing == name or (name.endswith("*") and thing.startswith(name[:-1]))
    }


@dataclass
class Story:
    """A chain as it was drawn.

    Attributes:
        root: The lease that it began with.
        wishes: What was signed, in order.
        honest: Each was signed by the holder before, over the chain before.
        claims: What an issuer that checks nothing would have given.
    """

    root: ExecutionClaims
    wishes: list[Wish]
    honest: bool
    claims: ExecutionClaims

    def narrows(self) -> bool:
        """Tell, from the wishes alone, whether nobody passed on more than he had."""
        had = (self.root.scope, self.root.audience, self.root.expires_at, MAX_DEPTH)
        holders = [0]
        for wish in self.wishes:
            within = (
                meant(wish.scope) <= meant(had[0])
                and wish.audience == had[1]
                and wish.expires_at <= had[2]
                and wish.depth < had[3]
                and wish.to not in holders
            )
            if not within:
                return False
            had = (wish.scope, wish.audience, wish.expires_at, wish.depth)
            holders.append(wish.to)
        return self.honest


def draw_scope(draw: random.Random, of: Sequence[str], *, wider: bool) -> tuple[str, ...]:
    """Draw scope names: some of what ``of`` stands for, or anything."""
    pool = [*NAMES, *BRANCHES]
    if not wider:
        pool = [name for name in pool if meant([name]) <= meant(of)]
    return tuple(draw.sample(pool, draw.randint(1, min(4, len(pool)))))


def draw_story(draw: random.Random, number: int) -> Story:
    """Draw a chain of 1 to 8 grants; in every second, some grant may go too far."""
    scope = tuple(draw.sample([*NAMES, *BRANCHES], draw.randint(1, 5)))
    root = claims = root_claims(number, scope=scope)
    careless = draw.random() < 0.5
    length = min(draw.choice((1, 1, 2, 2, 3, 3, 4, 5, 6, 8)), MAX_DEPTH)
    left = draw.randint(length, MAX_DEPTH)
    wishes: list[Wish] = []
    honest = True
    holder = 0
    for step in range(length):
        wrong = draw.choice((*[""] * 14, *FAULTS)) if careless else ""
        left = min(left - 1, MAX_DEPTH - 1) if wrong != "depth" else min(left, MAX_DEPTH - 1)
        unused = [to for to in range(len(KEYS)) if to not in {0, *(each.to for each in wishes)}]
        to = draw.choice(unused)
        if wrong == "cycle":
            to = draw.choice([0, *(each.to for each in wishes)])
        wish = Wish(
            to=to,
            scope=draw_scope(draw, claims.scope, wider=wrong == "scope"),
            audience="https://other.example" if wrong == "audience" else claims.audience,
            expires_at=claims.expires_at + (1 if wrong == "expires" else -draw.randint(0, 5)),
            depth=max(left - (draw.random() < 0.2 and left > length - step), 0),
        )
        left = wish.depth
        signer = KEYS[holder]
        if wrong == "signer":
            signer, honest = KEYS[(holder + 1) % len(KEYS)], False
        if wrong == "parent":
            honest = False
            claims = forge_parent(claims, wish, signer)
        else:
            claims = pass_on(claims, wish, signer)
        wishes.append(wish)
        holder = wish.to
    return Story(root, wishes, honest, claims)


def forge_parent(claims: ExecutionClaims, wish: Wish, signer: PrivateKeySigner) -> ExecutionClaims:
    """Pass on with a grant that was made for another lease."""
    made = pass_on(claims, wish, signer)
    assert made.delegation is not None
    elsewhere = sign_wish(wish, signer, bytes(32))
    last = replace(made.delegation.links[-1], grant=elsewhere)
    return with_links(made, [*made.delegation.links[:-1], last])


FAULTS: Final = ("scope", "audience", "expires", "depth", "cycle", "signer", "parent")


def test_no_chain_of_ten_thousand_widens() -> None:
    """A chain is accepted exactly where an oracle, reading the wishes, finds that it narrows."""
    draw = random.Random(SEED)  # noqa: S311 - the same in every run
    accepted = refused = 0
    for number in range(CHAINS):
        story = draw_story(draw, number)
        found = ids(story.claims)
        assert (found == []) == story.narrows(), (number, story.wishes, found)
        if found:
            refused += 1
            continue
        accepted += 1
        verified = verify_chain(story.claims)
        # What the end holds, the root had: link by link narrower is narrower all the way.
        assert meant(story.claims.scope) <= meant(story.root.scope)
        assert story.claims.expires_at <= story.root.expires_at
        assert story.claims.audience == story.root.audience
        assert verified.holding.depth <= MAX_DEPTH - verified.depth
        assert len(set(verified.holding.keys)) == verified.depth + 1 == len(verified.lease_ids)
    assert accepted > CHAINS // 2
    assert refused > CHAINS // 10


def widest(claims: ExecutionClaims, to: int, depth: int) -> Wish:
    """Return all that the holder at a depth may pass on."""
    return Wish(to, claims.scope, claims.audience, claims.expires_at, MAX_DEPTH - depth)


def alterations(
    draw: random.Random, claims: ExecutionClaims, donor: ExecutionClaims, holder: PrivateKeySigner
) -> Iterator[tuple[str, ExecutionClaims]]:
    """Yield a chain with a link dropped, moved, taken from another, forged, cut or added."""
    assert claims.delegation is not None
    assert donor.delegation is not None
    links, others = list(claims.delegation.links), donor.delegation.links
    count = len(links)
    for at in range(count):
        if count > 1:
            yield "dropped", with_links(claims, links[:at] + links[at + 1 :])
        if at:
            moved = [*links]
            moved[at - 1], moved[at] = moved[at], moved[at - 1]
            yield "reordered", with_links(claims, moved)
            yield "truncated", with_links(claims, links[:at])
    at = draw.randrange(count)
    foreign = others[min(at, len(others) - 1)]
    yield "spliced", with_links(claims, [*links[:at], foreign, *links[at + 1 :]])
    yield "spliced rest", with_links(claims, [*links[:at], *others[at:]] or [foreign])
    yield "forged", with_links(claims, [*links[:at], forged(draw, links[at]), *links[at + 1 :]])
    other_id = replace(links[at], lease_id=bytes(15) + b"\1")
    yield "renamed", with_links(claims, [*links[:at], other_id, *links[at + 1 :]])
    if count < MAX_DEPTH:
        unused = next(n for n in range(23, 0, -1) if KEYS[n].public != claims.confirmation)
        wish = widest(claims, unused, count + 1)
        grant = sign_wish(wish, holder, chain_head(claims))
        print_of = KEYS[unused].public.thumbprint()
        added = DelegationLink(lease_id_of(grant), print_of, grant)
        yield "extended", with_links(claims, [*links, added])


def forged(draw: random.Random, link: DelegationLink) -> DelegationLink:
    """Return a link whose grant says more, or is signed by somebody else, or by nobody."""
    header, payload, signature = link.grant.split(".")
    members = strictjson.parse_object(base64url.decode(payload))
    kind = draw.choice(("member", "stranger", "signature"))
    if kind == "member":
        name = draw.choice(("exp", "iat", "jti"))
        members[name] = f"{members[name]}0" if name == "jti" else members[name] - 1
        payload = base64url.encode(strictjson.serialise(members))
    elif kind == "stranger":
        signed = f"{header}.{payload}"
        signature = base64url.encode(STRANGER.sign(signed.encode()))
    else:
        data = bytearray(base64url.decode(signature))
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        signature = base64url.encode(bytes(data))
    return replace(link, grant=f"{header}.{payload}.{signature}")


def test_every_altered_chain_of_ten_thousand_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is dropped, reordered, spliced, forged, truncated or added, the end tells."""
    # The unaltered links of a chain come back in each of its ten alterations: a signature that was
    # found genuine is not tried again.
    genuine: dict[str, bytes] = {}

    def remembered(text: str, *arguments: Any, **named: Any) -> bytes:
        if text not in genuine:
            genuine[text] = verify_compact(text, *arguments, **named)
        return genuine[text]

    monkeypatch.setattr("bootlease.token.grants.verify_compact", remembered)
    draw = random.Random(SEED + 1)  # noqa: S311 - the same in every run
    tried: dict[str, int] = {}
    donor = chain(3, number=-1)
    for number in range(CHAINS):
        claims = root_claims(number)
        holder = 0
        for step in range(draw.choice((1, 2, 2, 3, 3, 4))):
            to = 1 + step * 3 + draw.randrange(3)
            claims = pass_on(claims, widest(claims, to, step + 1), KEYS[holder])
            holder = to
        for kind, altered in alterations(draw, claims, donor, KEYS[holder]):
            tried[kind] = tried.get(kind, 0) + 1
            assert ids(altered) != [], (number, kind)
        donor = claims
    assert set(tried) == {
        *("dropped", "reordered", "truncated", "spliced", "spliced rest"),
        *("forged", "renamed", "extended"),
    }
    assert min(tried.values()) >= CHAINS


# -- each check by itself


def end_of(*wishes: Wish) -> ExecutionClaims:
    """Return what a careless issuer gives at the end of a chain from the usual root."""
    claims, holder = root_claims(), 0
    for wish in wishes:
        claims = pass_on(claims, wish, KEYS[holder])
        holder = wish.to
    return claims


ROOT: Final = root_claims()
WIDEST: Final = narrowed(ROOT, 1)


@pytest.mark.parametrize("length", range(1, MAX_DEPTH + 1))
def test_a_chain_of_any_allowed_length_is_verified(length: int) -> None:
    """Every holder may pass on all that he has, as often as the depth lets him."""
    verified = verify_chain(chain(length))
    assert isinstance(verified, VerifiedChain)
    assert verified.depth == length
    assert verified.holding.depth == MAX_DEPTH - length
    assert verified.holding.thumbprint == KEYS[length].public.thumbprint()
    assert verified.lease_ids[0] == verified.root.lease_id
    assert len(verified.lease_ids) == length + 1


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"scope": ("tools:read", "tools:write")}, "delegation.scope.wider"),
        ({"scope": ("repo:*",)}, "delegation.scope.wider"),
        ({"audience": "https://other.example"}, "delegation.audience.mismatch"),
        ({"expires_at": ROOT.expires_at + 1}, "delegation.expires.later"),
        ({"to": 0}, "delegation.key.repeated"),
    ],
)
def test_a_grant_beyond_the_root_is_refused(change: dict[str, Any], finding: str) -> None:
    """The first grant is measured by the lease that the node attested for."""
    assert ids(end_of(replace(WIDEST, **change))) == [finding]


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"scope": ("repo:acme:*",)}, "delegation.scope.wider"),
        ({"expires_at": ROOT.expires_at - 9}, "delegation.expires.later"),
        ({"depth": 1}, "delegation.depth.exceeded"),
        ({"to": 1}, "delegation.key.repeated"),
        ({"to": 0}, "delegation.key.repeated"),
    ],
)
def test_a_grant_beyond_the_one_before_is_refused(change: dict[str, Any], finding: str) -> None:
    """A further grant is measured by the one before it, not by the root."""
    first = replace(WIDEST, scope=("tools:read",), expires_at=ROOT.expires_at - 10, depth=1)
    second = replace(first, to=2, depth=0)
    assert ids(end_of(first, second)) == []
    assert ids(end_of(first, replace(second, **change))) == [finding]


def test_a_grant_of_depth_zero_ends_a_chain() -> None:
    """Who may not pass on, may not even with a grant that nobody may pass on."""
    last = replace(WIDEST, depth=0)
    assert ids(end_of(last)) == []
    assert ids(end_of(last, replace(last, to=2))) == ["delegation.depth.exceeded"]


def test_another_key_than_the_holders_grants_nothing() -> None:
    """A grant is the holder's word: another key's is not, however well it is signed."""
    assert ids(pass_on(ROOT, WIDEST, STRANGER)) == ["delegation.key.mismatch"]
    second = pass_on(end_of(WIDEST), replace(WIDEST, to=2, depth=0), KEYS[0])
    assert ids(second) == ["delegation.key.mismatch"]


def test_a_grant_for_another_lease_of_the_same_holder_is_refused() -> None:
    """A holder who renewed its lease has passed on the old one, not the new one."""
    other = root_claims(1)
    claims = pass_on(ROOT, WIDEST, KEYS[0])
    assert claims.delegation is not None
    grant = sign_wish(WIDEST, KEYS[0], other.digest)
    link = replace(claims.delegation.links[0], grant=grant)
    assert ids(with_links(claims, [link])) == ["delegation.parent.mismatch"]


def resigned(claims: ExecutionClaims, grant: str) -> ExecutionClaims:
    """Return the token with another text in the place of its only grant."""
    assert claims.delegation is not None
    return with_links(claims, [replace(claims.delegation.links[0], grant=grant)])


def rewrite(
    grant: str,
    header: dict[str, Any] | None = None,
    members: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    signer: PrivateKeySigner = KEYS[0],
) -> str:
    """Return a grant with members changed, signed anew."""
    old = grant.split(".")
    parts = strictjson.parse_object(base64url.decode(old[0])) | (header or {})
    payload = members(strictjson.parse_object(base64url.decode(old[1])))
    return sign_compact(encode_header(parts), strictjson.serialise(payload), signer)


ONE: Final = end_of(WIDEST)
assert ONE.delegation is not None
GRANT: Final = ONE.delegation.links[0].grant


def test_a_signature_that_does_not_verify_is_refused() -> None:
    """The key is in the grant, so only the signature says whose it is."""
    head, _, signature = GRANT.rpartition(".")
    data = base64url.decode(signature)
    broken = f"{head}.{base64url.encode(bytes([data[0] ^ 1]) + data[1:])}"
    assert ids(resigned(ONE, broken)) == ["delegation.signature.invalid"]


@pytest.mark.parametrize("name", ["none", "HS256", "ES384", "EdDSA"])
def test_the_algorithm_is_the_keys(name: str) -> None:
    """RFC 8725 §3.1: what the header says is compared, never obeyed."""
    assert ids(resigned(ONE, rewrite(GRANT, {"alg": name}))) == ["delegation.algorithm.mismatch"]


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "a.b.c",
        GRANT.replace(".", "", 1),
        rewrite(GRANT, {"typ": "dpop+jwt"}),
        rewrite(GRANT, {"jwk": {"kty": "oct", "k": "AAAA"}}),
        rewrite(GRANT, {"jwk": None}),
        rewrite(GRANT, members=lambda each: each | {"nbf": NOW}),
        rewrite(GRANT, members=lambda each: {n: v for n, v in each.items() if n != "jti"}),
        rewrite(GRANT, members=lambda each: each | {"exp": True}),
        rewrite(GRANT, members=lambda each: each | {"exp": "1"}),
        rewrite(GRANT, members=lambda each: each | {"exp": each["iat"]}),
        rewrite(GRANT, members=lambda each: each | {"depth": -1}),
        rewrite(GRANT, members=lambda each: each | {"depth": MAX_DEPTH}),
        rewrite(GRANT, members=lambda each: each | {"parent": each["parent"][:-4]}),
        rewrite(GRANT, members=lambda each: each | {"jkt": 7}),
        rewrite(GRANT, members=lambda each: each | {"scope": ""}),
        rewrite(GRANT, members=lambda each: each | {"scope": "a  b"}),
        rewrite(GRANT, members=lambda each: each | {"aud": ""}),
        rewrite(GRANT, members=lambda each: each | {"aud": ["x"]}),
        rewrite(GRANT, members=lambda each: each | {"jti": ""}),
        rewrite(GRANT, members=lambda each: each | {"aud": "x\n"}),
        rewrite(GRANT, members=lambda each: each | {"jti": "x" * 129}),
        rewrite(GRANT, members=lambda each: each | {"jti": "x\u2028"}),
        rewrite(GRANT, members=lambda each: each | {"iat": -1}),
    ],
)
def test_what_is_no_grant_is_refused(text: str) -> None:
    """A member that is missing, of another type, or that nobody here knows, makes it none."""
    with pytest.raises(MalformedError):
        parse_grant(text)
    assert ids(resigned(ONE, text)) == ["delegation.grant.malformed"]


def test_the_id_of_a_grant_reaches_its_bound() -> None:
    """128 characters are an id."""
    text = rewrite(GRANT, members=lambda each: each | {"jti": "x" * 128})
    assert parse_grant(text).jti == "x" * 128


@pytest.mark.parametrize("name", ["parent", "thumbprint"])
def test_text_is_no_digest_of_a_grant(name: str) -> None:
    """Of 32 characters neither."""
    with pytest.raises(ValueError, match="is not 32 bytes"):
        replace(parse_grant(GRANT), **{name: "x" * 32})  # type: ignore[arg-type]  # the point


def test_a_grant_is_bounded() -> None:
    """Its length is looked at before anything else."""
    with pytest.raises(MalformedError, match="longer"):
        parse_grant("x" * (MAX_GRANT + 1))
    with pytest.raises(MalformedError, match="ASCII"):
        parse_grant("\N{LATIN SMALL LETTER E WITH ACUTE}")


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda each: each.decode("latin-1")))
def test_any_text_is_a_grant_or_malformed(text: str) -> None:
    """Parse, or MalformedError, never any other."""
    with pytest.raises(MalformedError):
        parse_grant(text)


@given(st.sampled_from(range(3)), st.binary(max_size=300))
def test_any_bytes_in_a_part_of_a_grant_are_read_or_malformed(part: int, data: bytes) -> None:
    """Whatever stands in header, payload or signature."""
    parts = GRANT.split(".")
    parts[part] = base64url.encode(data)
    try:
        verify_grant(".".join(parts), holding_of(ROOT))
    except (MalformedError, VerificationError):
        return
    assert part == 2


def test_the_link_names_the_key_of_its_grant() -> None:
    """What logs show of a chain is what was signed."""
    assert ONE.delegation is not None
    other = replace(ONE.delegation.links[0], thumbprint=KEYS[5].public.thumbprint())
    assert ids(with_links(ONE, [other])) == ["delegation.link.mismatch"]


def test_a_chain_fixes_which_lease_each_grant_became() -> None:
    """A relying party looks up the status of these: another one may be alive."""
    two = chain(2)
    assert two.delegation is not None
    first, second = two.delegation.links
    other = replace(first, lease_id=bytes(16))
    assert ids(with_links(two, [other, second])) == ["delegation.parent.mismatch"]
    root = two.delegation.root
    encoded = cbor.encode(
        ["bootlease/delegation-chain/1", root.digest, first.lease_id, first.grant.encode()]
    )
    assert parse_grant(second.grant).parent == hashlib.sha256(encoded).digest()


def test_a_chain_has_no_lease_twice() -> None:
    """One place in the status list must not stand for two leases."""
    assert ONE.delegation is not None
    root_id = ONE.delegation.root.lease_id
    same = replace(ONE.delegation.links[0], lease_id=root_id)
    claims = replace(with_links(ONE, [same]), lease_id=root_id)
    assert ids(claims) == ["delegation.lease.repeated"]


@pytest.mark.parametrize(
    "change",
    [
        {"confirmation": KEYS[7].public},
        {"scope": ("tools:read",)},
        {"scope": ("tools:read", "repo:acme:*", "tools:write")},
        {"audience": "https://other.example"},
        {"expires_at": ONE.expires_at - 1},
        {"expires_at": ONE.expires_at + 1},
        {"lease_id": bytes(16)},
    ],
)
def test_the_token_says_what_the_last_grant_says(change: dict[str, Any]) -> None:
    """Neither more nor less: what follows is measured by the grant."""
    assert ids(replace(ONE, **change)) == ["delegation.end.mismatch"]


def test_all_that_is_too_wide_is_said_at_once() -> None:
    """A holder who mends one thing need not come back for the next."""
    wish = replace(
        *(WIDEST,), to=0, scope=("x:y",), audience="https://o.example", expires_at=NOW + 9_000
    )
    grant = sign_wish(wish, KEYS[0], bytes(32))
    with pytest.raises(VerificationError) as raised:
        verify_grant(grant, holding_of(ROOT).within(3))
    assert [finding.id for finding in raised.value.findings] == [
        "delegation.parent.mismatch",
        "delegation.scope.wider",
        "delegation.audience.mismatch",
        "delegation.expires.later",
        "delegation.depth.exceeded",
        "delegation.key.repeated",
    ]


def test_a_token_that_was_not_delegated_has_no_chain() -> None:
    """It has what it says, to pass on; asking for its chain is a mistake of the caller."""
    with pytest.raises(ValueError, match="not delegated"):
        verify_chain(ROOT)
    holding = holding_of(ROOT)
    assert (holding.head, holding.depth) == (ROOT.digest, MAX_DEPTH)
    assert (holding.keys, holding.lease_ids) == ((holding.thumbprint,), (ROOT.lease_id,))
    assert holding.within(2).depth == 2
    assert holding.within(20).depth == MAX_DEPTH


def test_a_chain_is_1_to_8_grants() -> None:
    """Without one it is no delegation; with more than eight it was never allowed."""
    eight = chain(MAX_DEPTH)
    assert eight.delegation is not None
    links = eight.delegation.links
    with pytest.raises(ValueError, match="1 to 8"):
        Delegation(eight.delegation.root, ())
    with pytest.raises(ValueError, match="1 to 8"):
        Delegation(eight.delegation.root, (*links, replace(links[0], lease_id=b"n" * 16)))


@pytest.mark.parametrize("name", ["scope", "thumbprint", "depth", "expires_at", "jti", "audience"])
def test_no_grant_is_made_that_could_not_be_read(name: str) -> None:
    """What ``make_grant`` returns, ``parse_grant`` reads."""
    good: dict[str, Any] = {
        "thumbprint": bytes(32),
        "scope": ("a:b",),
        "audience": "x",
        "expires_at": NOW + 1,
        "depth": 0,
        "issued_at": NOW,
        "jti": "j",
    }
    assert parse_grant(make_grant(KEYS[0], bytes(32), **good)).thumbprint == bytes(32)
    bad: dict[str, Any] = {"scope": (), "thumbprint": b"", "depth": 8, "expires_at": NOW}
    with pytest.raises(ValueError, match=r"grant|scope"):
        make_grant(KEYS[0], bytes(32), **good | {name: bad.get(name, "")})


def test_a_grant_is_named_by_its_key_and_id() -> None:
    """Its one use: the same id of the same key, whatever else it says."""
    first = parse_grant(sign_wish(WIDEST, KEYS[0], bytes(32), jti="one"))
    again = parse_grant(sign_wish(replace(WIDEST, to=9), KEYS[0], bytes(32), jti="one"))
    other = parse_grant(sign_wish(WIDEST, KEYS[0], bytes(32), jti="two"))
    theirs = parse_grant(sign_wish(WIDEST, KEYS[1], bytes(32), jti="one"))
    assert first.use == again.use
    assert len({first.use, other.use, theirs.use}) == 3
    assert first.digest != again.digest
    # The verifier remembers uses: by another name, a grant would pass again after an upgrade.
    named = cbor.encode(["bootlease/delegation-use/1", KEYS[0].public.thumbprint(), "one"])
    assert first.use == hashlib.sha256(named).digest()


def test_the_form_of_a_grant_is_fixed() -> None:
    """What holders sign is documented; another implementation must be able to make it."""
    header, payload, _ = GRANT.split(".")
    assert strictjson.parse_object(base64url.decode(header)) == {
        "alg": "ES256",
        "typ": GRANT_TYP,
        "jwk": KEYS[0].public.jwk(),
    }
    assert strictjson.parse_object(base64url.decode(payload)) == {
        "parent": base64url.encode(ROOT.digest),
        "jkt": base64url.encode(KEYS[1].public.thumbprint()),
        "scope": "tools:read repo:acme:*",
        "aud": ROOT.audience,
        "exp": ROOT.expires_at,
        "depth": MAX_DEPTH - 1,
        "iat": NOW,
        "jti": "1",
    }
