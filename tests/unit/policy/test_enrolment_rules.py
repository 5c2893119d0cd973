"""The policy's rules on makes, revocation lists and weak signatures."""

from __future__ import annotations

import pytest

from bootlease.errors import MalformedError
from bootlease.policy import CRLRule, Policy, parse_policy
from bootlease.policy.canonical import parse_canonical_policy
from bootlease.testing.scene import POLICY


def policy(**changes: str) -> Policy:
    """Return the policy with other lines in [enrolment]."""
    lines = POLICY.splitlines()
    for key, value in changes.items():
        (at,) = [number for number, line in enumerate(lines) if line.startswith(f"{key} =")]
        lines[at] = f"{key} = {value}"
    return parse_policy("\n".join(lines))


def test_the_rules_arrive() -> None:
    """Vendors by name become ids; patterns are read."""
    rules = policy(
        vendors='["STM", "id:4e544300"]',
        refuse_firmware='["IFX/SLB9665/*", "STM/ST33TPHF2ESPI/id:0047*"]',
        crl='"required"',
        unsafe_software_tpm="[]",
        unsafe_sha1_signatures="true",
    ).enrolment
    assert rules.vendors == {"id:53544D20", "id:4E544300"}
    assert {str(each) for each in rules.refuse_firmware} == {
        "id:49465800/SLB9665/*",
        "id:53544D20/ST33TPHF2ESPI/id:0047*",
    }
    assert rules.crl is CRLRule.REQUIRED
    assert rules.unsafe_sha1_signatures
    assert not rules.unsafe_software_tpm


def test_a_vendor_spelt_otherwise_is_the_same_policy() -> None:
    """The digest is that of the meaning, which the canonical form keeps."""
    name, number = policy(vendors='["STM"]'), policy(vendors='["id:53544d20"]')
    assert name.digest == number.digest != policy().digest
    again = parse_canonical_policy(name.encode())
    assert again.enrolment == name.enrolment
    assert again.digest == name.digest


@pytest.mark.parametrize(
    ("key", "other"),
    [
        ("vendors", '["STM"]'),
        ("refuse_firmware", '["STM/*/*"]'),
        ("crl", '"required"'),
        ("unsafe_software_tpm", "[]"),
        ("unsafe_sha1_signatures", "true"),
    ],
)
def test_each_rule_changes_the_digest(key: str, other: str) -> None:
    """A decision names every rule that it was made by."""
    assert policy(**{key: other}).digest != policy().digest


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("vendors", "[]", "must not be empty"),
        ("vendors", '["SMT"]', "no TPM vendor"),
        ("vendors", '["any", "STM"]', "stands alone"),
        ("vendors", '["STM", "id:53544D20"]', "twice"),
        ("vendors", '"STM"', "must be an array"),
        ("refuse_firmware", '["STM"]', "VENDOR/MODEL/VERSION"),
        ("refuse_firmware", '["STM/A/*", "id:53544D20/A/*"]', "twice"),
        ("unsafe_software_tpm", '["*/*/*"]', "may have"),
        ("unsafe_software_tpm", "[true]", "must be a string"),
        ("crl", '"optional"', "'required', 'when-given'"),
        ("crl", "true", "must be a string"),
        ("unsafe_sha1_signatures", '"no"', "true or false"),
        ("unsafe_sha1_signatures", "0", "true or false"),
    ],
)
def test_a_wrong_value_names_its_key(key: str, value: str, said: str) -> None:
    """Nothing that is mistaken is read as something that is not."""
    with pytest.raises(MalformedError, match=f"enrolment.{key}") as caught:
        policy(**{key: value})
    assert said in str(caught.value)
