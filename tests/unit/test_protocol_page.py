"""``docs/protocol.md`` says what the code does: its tables are held against the constants."""

from __future__ import annotations

import re
from pathlib import Path

from bootlease.evidence import document, enrolment, request
from bootlease.evidence.binding import MAX_BINDING
from bootlease.evidence.challenge import MAX_TOKEN
from bootlease.policy.values import MAX_LIFE
from bootlease.token import scope
from bootlease.verifier.limits import DEFAULT_LIMITS
from bootlease.verifier.problems import ProblemKind

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()


def table(heading: str) -> list[list[str]]:
    """Return the rows of the table under a heading, without its head."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return rows[2:]


def test_every_problem_is_in_the_table_and_none_else() -> None:
    """Status and type of each problem are documented."""
    documented = {(int(status), kind.strip("`")) for status, kind, _ in table("Problems")}
    assert documented == {(kind.status, kind.uri.rpartition("/")[2]) for kind in ProblemKind}


def test_the_limits_are_those_of_the_code() -> None:
    """Each number of the table is a constant's."""
    kib, mib = 1024, 1024 * 1024
    numbers = [
        int(number) * {"KiB": kib, "MiB": mib}.get(unit, 1)
        for row in table("Limits")
        for number, unit in re.findall(r"(\d+) ?(KiB|MiB|)", row[1])
    ]
    assert numbers == [
        *(DEFAULT_LIMITS.evidence, DEFAULT_LIMITS.evidence_ima, DEFAULT_LIMITS.evidence_core),
        DEFAULT_LIMITS.evidence_core_per_lease,
        document.MAX_IMA_LIST,
        *(enrolment.MAX_ENROLMENT, enrolment.MAX_CERTIFICATE, enrolment.MAX_CHAIN),
        *(request.MAX_TPM_STRUCTURE, MAX_BINDING, request.MAX_KEY),
        *(request.MAX_LEASES, scope.MAX_NAMES),
        *(scope.MAX_NAME, request.MAX_AUDIENCE, enrolment.MAX_JOIN_TOKEN),
        MAX_TOKEN,
        MAX_LIFE,
        *(int(DEFAULT_LIMITS.body_time), int(DEFAULT_LIMITS.header_time)),
        DEFAULT_LIMITS.grants_per_life,
        *(DEFAULT_LIMITS.enrolments_per_node.count, DEFAULT_LIMITS.enrolments_per_node.window),
        *(DEFAULT_LIMITS.ledger.count, DEFAULT_LIMITS.ledger.window),
    ]


def test_no_parser_takes_less_than_the_page_promises() -> None:
    """The verifier's own limit is the narrower one."""
    assert DEFAULT_LIMITS.evidence <= DEFAULT_LIMITS.evidence_ima <= document.MAX_EVIDENCE
    assert document.MAX_IMA_LIST + DEFAULT_LIMITS.evidence <= DEFAULT_LIMITS.evidence_ima
