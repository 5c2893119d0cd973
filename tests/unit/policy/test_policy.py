"""Policies: every key there, no other, and nothing accepted by default."""

from __future__ import annotations

import dataclasses

import pytest

from bootlease.errors import MalformedError
from bootlease.model import Effect, HashAlg
from bootlease.policy import Admission, EKAlgorithm, PolicyEpoch, parse_policy

HEX = "ab" * 32
LINES = {
    "schema": "1",
    "id": '"default"',
    "mode": '"enforce"',
    "quote.banks": '["sha256"]',
    "quote.pcrs": "[0, 4, 7, 14]",
    "quote.unsafe_clock": '"refuse"',
    "references.accept": '["debian-12"]',
    "boot.secure_boot": '"required"',
    "boot.deployed_mode": '"not-required"',
    "boot.exit_boot_services": '"not-required"',
    "boot.option_roms": '"note"',
    "boot.unsafe_setup_mode": '"refuse"',
    "boot.unsafe_test_keys": '"refuse"',
    "boot.unsafe_debug_mode": '"refuse"',
    "boot.unsafe_dma": '"refuse"',
    "boot.unsafe_shim_validation": '"refuse"',
    "boot.phases": "[]",
    "ima.appraise": '"off"',
    "lease.life": "120",
    "lease.scopes": '["tool:search", "repo:acme/*"]',
    "lease.audiences": '["https://tools.example"]',
    "lease.max_leases": "16",
    "enrolment.admit": '"allowlist"',
    "enrolment.ek_algorithm": '"ecc-p256"',
    "enrolment.allow_ek": f'["{HEX}"]',
    "enrolment.vendors": '["any"]',
    "enrolment.refuse_firmware": "[]",
    "enrolment.crl": '"when-given"',
    "enrolment.unsafe_unendorsed_ek": "[]",
    "enrolment.unsafe_software_tpm": "[]",
    "enrolment.unsafe_sha1_signatures": "false",
}


def toml(**changes: str | None) -> str:
    """Return a sound policy; a key is ``table__name``, None removes it."""
    lines = dict(LINES)
    for key, value in changes.items():
        name = key.replace("__", ".")
        if value is None:
            del lines[name]
        else:
            lines[name] = value
    return "\n".join(f"{key} = {value}" for key, value in lines.items())


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
    tables = "\n".join(
        [
            "schema = 1",
            'id = "default"',
            'mode = "enforce"',
            *[
                line
                for table in ("quote", "references", "boot", "ima", "lease", "enrolment")
                for line in [
                    f"[{table}]",
                    *[
                        f"{key.partition('.')[2]} = {value}"
                        for key, value in LINES.items()
                        if key.startswith(f"{table}.")
                    ],
                ]
            ],
        ]
    )
    assert parse_policy(text).digest == parse_policy(tables.encode()).digest


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
        ("lease__scopes", "[]"),
        ("lease__scopes", '["*"]'),
        ("lease__scopes", '["repo*"]'),
        ("lease__scopes", '["a b"]'),
        ("lease__scopes", f'["{"a" * 129}"]'),
        ("lease__audiences", "[]"),
        ("lease__audiences", '[""]'),
        ("lease__audiences", '["a\\u001b"]'),
        ("lease__max_leases", "0"),
        ("lease__max_leases", "65"),
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
        ("lease__scopes", '["tool:search"]'),
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
        "b2fc96118a59ec9202d718d8599bd862bb7cfb5e3d3ae1312ff2ccb31a2c9035"
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
    lines = [f"{key} = {value}" for key, value in LINES.items() if not key.startswith("quote.")]
    with pytest.raises(MalformedError, match=r"\[quote\] must be a table"):
        parse_policy("\n".join([*lines, "quote = 1"]))


def test_epochs_count_from_one() -> None:
    """Epoch 0 is "no policy yet" and is no epoch."""
    with pytest.raises(ValueError, match="count from 1"):
        PolicyEpoch(parse_policy(toml()), 0)
    assert dataclasses.replace(PolicyEpoch(parse_policy(toml()), 1), epoch=2).epoch == 2
