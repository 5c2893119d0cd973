"""The load generator as a user runs it, in small."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.fleet.__main__ import options_of

ROOT = Path(__file__).resolve().parents[2]


def test_it_measures_a_verifier(tmp_path: Path) -> None:
    """Nodes enrol, renew and join during the run; every figure is written; nothing fails."""
    arguments = ("--nodes", "20", "--rate", "40", "--duration", "1", "--enrol-share", "0.1")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.fleet", *arguments),
            *("--ceiling-seconds", "0", "--out", str(tmp_path / "out"), "--json"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(done.stdout)["runs"]
    assert run["errors"] == {}
    assert run["renewals"] > 20
    assert run["others"]["enrolment"]["count"] > 0
    assert run["verifier_cpu_ms_per_operation"] > 0
    with (tmp_path / "out" / "histogram.csv").open() as file:
        assert sum(int(row["count"]) for row in csv.DictReader(file)) == run["renewals"]
    assert (tmp_path / "out" / "percentiles.svg").exists()


def test_it_says_what_is_wrong_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    """A rate is needed, and a credential for a verifier that runs already."""
    for arguments, words in (
        ((), "--rate or --find-rate"),
        (("--rate", "1", "--url", "http://127.0.0.1:1"), "go together"),
    ):
        with pytest.raises(SystemExit, match="2"):
            options_of(arguments)
        assert words in capsys.readouterr().err
