"""Section D: hostile logs made from real ones, refused for their meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootlease.testing.local_ca import LocalCA
from tests.attacks.attack_logs import HostileLog, as_extended, as_shown, cases
from tests.attacks.verdict import Verdict


@pytest.mark.corpus
@cases("D")
def test_a_hostile_log_meets_its_verdict(
    corpus: Path, local_ca: LocalCA, verdict: Verdict, log: HostileLog
) -> None:
    """Behind the quote of an honest machine, and behind one of a TPM that was extended by it."""
    verdict.expects(as_shown(corpus, local_ca, log), log.shown)
    if log.extended is not None:
        verdict.expects(as_extended(corpus, local_ca, log), log.extended)
