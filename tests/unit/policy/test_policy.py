"""Policies: every key there, no other, and nothing accepted by default."""

from __future__ import annotations

import dataclasses
import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.model import Effect, HashAlg
from bootlease.policy import Admission, EKAlgorithm, PolicyEpoch, parse_policy
from bootlease.policy.file import TABLES, with_cedar
from bootlease.testing.policies import DEFAULTS, make_policy

HEX = "ab" * 32
LINES = (*DEFAULTS, "authorization.cedar")


def toml(**changes: str | None) -> str:
    """Return a sound policy; a key is ``table__name``, None removes it."""
    strict: dict[str, str | None] = {
        "quote__pcrs": "[0, 4, 7, 14]",
        "references__accept": '["debian-12"]',
        "boot__secure_boot": '"required"',
        **{f"boot__{key}": '"refuse"' for key in TABLES["boot"] if key.startswith("unsafe_")},
        "enrolment__admit": '"allowlist"',
        "enrolment__allow_ek": f'["{HEX}"]',
        "enrolment__unsafe_software_tpm": "[]",
    }
    return make_policy(**{**strict, **changes})


def test_a_sound_policy_is_read() -> None:
    """Each key arrives where it belongs."""
    policy = parse_policy(toml())
    assert policy.quote.selection == {HashAlg.SHA256: (0, 4, 7, 14)}
    assert policy.quote.unsafe_clock is Effect.REFUSES
    assert policy.accept == ("debian-12",)
    assert policy.lease.life == 120
    assert policy.enrolment.admit is Admission.ALLOWLIST
    assert policy.enrolment.ek_algorithm is EKAlgorithm.ECC_P256
    assert policy.enrolment.allow_ek == {bytes.fromhex(HEX)}


def test_tables_and_dotted_keys_are_one_file() -> None:
    """Layout, comments and order of lists are not content."""
    text = toml(quote__pcrs="[14, 7, 4, 0]") + "\n# a comment\n"
    file = tomllib.loads(toml())
    dotted = "\n".join(
        f"{name}.{key} = {json.dumps(each)}" if key else f"{name} = {json.dumps(each)}"
        for name, table in file.items()
        for key, each in (table.items() if isinstance(table, dict) else [("", table)])
    )
    assert parse_policy(text).digest == parse_policy(dotted.encode()).digest


@pytest.mark.parametrize("key", LINES)
def test_every_key_is_required(key: str) -> None:
    """What is forgotten is an error that names the key, never a default."""
    with pytest.raises(MalformedError, match=key.partition(".")[0]):
        parse_policy(toml(**{key.replace(".", "__"): None}))


@pytest.mark.parametrize("key", ["qoute", "quote__pcr", "lease__scope", "enrolment__any"])
def test_unknown_keys_are_errors(key: str) -> None:
    """What is misspelt is an error that names the key."""
    with pytest.raises(MalformedError, match="not a known key"):
        parse_policy(toml(**{key: "1"}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", "2"),
        ("schema", "true"),
        ("id", '""'),
        ("id", '"a b"'),
        ("id", "5"),
        ("quote__banks", "[]"),
        ("quote__banks", '["sha1"]'),
        ("quote__banks", '["sha256", "sha1"]'),
        ("quote__banks", '["md5"]'),
        ("quote__banks", '["sha256", "sha256"]'),
        ("quote__banks", '"sha256"'),
        ("quote__pcrs", "[]"),
        ("quote__pcrs", "[24]"),
        ("quote__pcrs", "[-1]"),
        ("quote__pcrs", "[0, 0]"),
        ("quote__pcrs", "[true]"),
        ("quote__pcrs", "[0.0]"),
        ("quote__pcrs", "[0, 23]"),
        ("quote__pcrs", "[0, 16]"),
        ("quote__unsafe_clock", '"accept"'),
        ("quote__unsafe_clock", "false"),
        ("references__accept", "[]"),
        ("references__accept", '["*"]'),
        ("references__accept", '["debian-12", "debian-12"]'),
        ("references__accept", '"debian-12"'),
        ("lease__life", "0"),
        ("lease__life", "901"),
        ("lease__life", "120.0"),
        ("lease__life", '"120"'),
        ("lease__life", "true"),
        ("lease__continuity", "0"),
        ("lease__continuity", "301"),
        ("lease__continuity", "2.0"),
        ("lease__delegation_depth", "-1"),
        ("lease__delegation_depth", "9"),
        ("lease__delegation_depth", "false"),
        ("lease__unsafe_bearer_audiences", '["https://other.example"]'),
        ("lease__unsafe_bearer_audiences", '"https://tools.example"'),
        ("lease__audiences", "[]"),
        ("lease__audiences", '[""]'),
        ("lease__audiences", '["a\\u001b"]'),
        ("lease__max_leases", "0"),
        ("lease__max_leases", "257"),
        ("enrolment__admit", '"everybody"'),
        ("enrolment__admit", '"any-endorsed"'),
        ("enrolment__ek_algorithm", '"rsa-1024"'),
        ("enrolment__allow_ek", "[]"),
        ("enrolment__allow_ek", '["ab"]'),
        ("enrolment__allow_ek", f'["{HEX.upper()}"]'),
        ("enrolment__allow_ek", f'["{HEX}", "{HEX}"]'),
        ("enrolment__unsafe_unendorsed_ek", '[""]'),
    ],
)
def test_values_out_of_range_are_errors(key: str, value: str) -> None:
    """Each rule refuses alone, and the message names the key."""
    with pytest.raises(MalformedError, match=key.partition("__")[2] or key):
        parse_policy(toml(**{key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", '"other"'),
        ("quote__banks", '["sha256", "sha384"]'),
        ("mode", '"report-only"'),
        ("quote__pcrs", "[0, 7, 14]"),
        ("boot__secure_boot", '"not-required"'),
        ("boot__deployed_mode", '"required"'),
        ("boot__unsafe_setup_mode", '"note"'),
        ("boot__unsafe_test_keys", '"note"'),
        ("boot__unsafe_debug_mode", '"note"'),
        ("boot__unsafe_dma", '"note"'),
        ("boot__unsafe_shim_validation", '"note"'),
        ("quote__unsafe_clock", '"note"'),
        ("references__accept", '["debian-13"]'),
        ("lease__life", "119"),
        ("lease__continuity", "11"),
        ("lease__delegation_depth", "1"),
        ("lease__unsafe_bearer_audiences", '["https://tools.example"]'),
        ("authorization__cedar", "'permit (principal, action, resource);'"),
        ("lease__audiences", '["https://other.example"]'),
        ("lease__max_leases", "15"),
        ("enrolment__ek_algorithm", '"rsa-2048"'),
        ("enrolment__allow_ek", f'["{"cd" * 32}"]'),
        ("enrolment__unsafe_unendorsed_ek", f'["{HEX}"]'),
    ],
)
def test_every_rule_is_in_the_digest(key: str, value: str) -> None:
    """Two policies of one digest are one policy."""
    assert parse_policy(toml(**{key: value})).digest != parse_policy(toml()).digest


def test_the_same_digest_means_the_same_policy_in_every_release() -> None:
    """The canonical form is a contract: tokens and records name policies by it."""
    assert parse_policy(toml()).digest.hex() == (
        "79b13c66261d560a593e5c3b93692ff256729b42894f42cdffd8f63baa565e89"
    )


@pytest.mark.parametrize(
    "text", ["", "schema", "a = [" * 5000, "\x00", 'schema = 1\nquote = "x"', b"\xff"]
)
def test_what_is_no_policy_is_malformed(text: str | bytes) -> None:
    """The parser has one error."""
    with pytest.raises(MalformedError):
        parse_policy(text)


def test_a_table_must_be_a_table() -> None:
    """A scalar in a table's place names the table."""
    missing: dict[str, str | None] = {f"quote__{key}": None for key in TABLES["quote"]}
    with pytest.raises(MalformedError, match=r"\[quote\] must be a table"):
        parse_policy(f"quote = 1\n{toml(**missing)}")


def test_epochs_count_from_one() -> None:
    """Epoch 0 is "no policy yet" and is no epoch."""
    with pytest.raises(ValueError, match="count from 1"):
        PolicyEpoch(parse_policy(toml()), 0)
    assert dataclasses.replace(PolicyEpoch(parse_policy(toml()), 1), epoch=2).epoch == 2


@given(st.text(max_size=40).filter(lambda text: "\r" not in text))
def test_cedar_text_that_is_put_in_is_read_back(cedar: str) -> None:
    """Whatever letters it has: quotes, backslashes, controls, the end of a TOML string."""
    file = tomllib.loads(with_cedar(toml(authorization__cedar=None), cedar))
    assert file["authorization"] == {"cedar": cedar}


@pytest.mark.parametrize("cedar", ["'''", "a''", "\nx", "\\", '"""', "\x7f\x00", "é\U0001f600"])
def test_awkward_cedar_text_is_read_back(cedar: str) -> None:
    """What ends or begins a TOML string in a way of its own."""
    for text in (toml(authorization__cedar=None), toml(authorization__cedar=None).encode()):
        assert tomllib.loads(with_cedar(text, cedar))["authorization"]["cedar"] == cedar


def test_cedar_text_is_not_put_in_twice() -> None:
    """Neither beside a table nor beside a dotted key, nor into what is no TOML."""
    for text in (toml(), "authorization.cedar = 'x'", "= 1"):
        with pytest.raises(MalformedError):
            with_cedar(text, "permit (principal, action, resource);")


def test_line_ends_of_another_system_are_the_same_policy() -> None:
    """TOML itself makes them one."""
    cedar = "permit (principal, action, resource);\n// the end\n"
    bare = toml(authorization__cedar=None)
    assert (
        parse_policy(with_cedar(bare, cedar.replace("\n", "\r\n"))).digest
        == parse_policy(with_cedar(bare, cedar)).digest
        == parse_policy(toml(authorization__cedar=f"'''\n{cedar}'''")).digest
    )
