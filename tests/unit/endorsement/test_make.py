"""Makes: vendors by name and id, patterns, and which TPMs are software."""

from __future__ import annotations

import pytest

from bootlease.endorsement import MakePattern, TPMIdentity, vendor_id, vendor_name

ST = TPMIdentity("id:53544D20", "ST33HTPHAHB4", "id:00490004")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("STM", "id:53544D20"),
        ("IFX", "id:49465800"),
        ("NTC", "id:4E544300"),
        ("INTC", "id:494E5443"),
        ("AMD", "id:414D4400"),
        ("GOOG", "id:474F4F47"),
        ("MSFT", "id:4D534654"),
        ("id:53544d20", "id:53544D20"),
        ("id:00001014", "id:00001014"),
    ],
)
def test_a_vendor_has_one_id(name: str, known: str) -> None:
    """The TCG's registered letters, or the id in any case."""
    assert vendor_id(name) == known


@pytest.mark.parametrize("name", ["SMT", "stm", "", "any", "id:5354", "id:53544D2G", "STM "])
def test_an_unknown_vendor_is_an_error(name: str) -> None:
    """A typo would refuse a fleet, or admit one."""
    with pytest.raises(ValueError, match="no TPM vendor"):
        vendor_id(name)


def test_a_vendor_id_is_shown_by_name() -> None:
    """An id that nobody registered stays an id."""
    assert vendor_name("id:53544D20") == "STM"
    assert vendor_name("id:00001014") == "id:00001014"
    assert str(ST) == "STM/ST33HTPHAHB4/id:00490004"


@pytest.mark.parametrize(
    "pattern",
    [
        "STM/ST33HTPHAHB4/id:00490004",
        "STM/*/*",
        "id:53544d20/st33*/*",
        "STM/ST33HTPHAHB4*/ID:0049*",
    ],
)
def test_a_pattern_means_a_make(pattern: str) -> None:
    """Model and version may end in a star; case counts for nothing."""
    assert MakePattern.parse(pattern).matches(ST)


@pytest.mark.parametrize(
    "pattern", ["IFX/*/*", "STM/ST33/*", "STM/ST33HTPHAHB4/id:0049000", "STM/*/id:0048*"]
)
def test_a_pattern_means_no_other(pattern: str) -> None:
    """A part without a star is the whole part."""
    assert not MakePattern.parse(pattern).matches(ST)


@pytest.mark.parametrize(
    "text", ["", "STM", "STM/*", "*/*/*", "STM/*x/*", "STM//*", "STM/*/*/*", "STM/a\n/*", "SMT/*/*"]
)
def test_what_is_no_pattern_is_an_error(text: str) -> None:
    """Three parts, a known vendor, stars at the end only."""
    with pytest.raises(ValueError, match=r"VENDOR/MODEL|no TPM vendor|may have"):
        MakePattern.parse(text)


@pytest.mark.parametrize(
    ("manufacturer", "model"),
    [
        ("id:00001014", "swtpm"),
        ("id:00001014", "anything"),
        ("id:49424D00", "SW   TPM"),
        ("id:49424d00", "x"),
        ("id:58595A5A", "xCG fTPM"),
        ("id:4D534654", "xCG  fTPM"),
        ("id:53544D20", "libtpms-0.10"),
        ("id:53544D20", "TPM Simulator"),
    ],
)
def test_software_tpms_are_known(manufacturer: str, model: str) -> None:
    """By the ids that they report and by what they call themselves (B16)."""
    assert TPMIdentity(manufacturer, model, "id:1").is_software


@pytest.mark.parametrize(
    "make",
    [
        ST,
        TPMIdentity("id:474F4F47", "vTPM", "id:20160511"),
        TPMIdentity("id:4D534654", "Virtual TPM", "id:20160511"),
        TPMIdentity("id:49465800", "SLB9670", "id:0755"),
        TPMIdentity("id:414D4400", "AMD", "id:00030001"),
    ],
)
def test_others_are_not(make: TPMIdentity) -> None:
    """A provider's virtual TPM is under the provider's own id: its root is what is trusted."""
    assert not make.is_software
