"""What every test of this tree shares: the corpus, the tools it needs, hypothesis profiles.

The corpus is a folder of recorded evidence that is not part of this repository. It is found
through ``BOOTLEASE_CORPUS``; a relative path counts from the project's root. Where the folder
is absent, the tests that need it are deselected and the report says how many; where
``BOOTLEASE_REQUIRE_CORPUS`` is set, its absence ends the run. The same holds for evidence of real
boots on virtual machines: tests marked ``lab``, ``BOOTLEASE_LAB``, ``BOOTLEASE_REQUIRE_LAB``.
Tests marked ``root`` start processes of other users; where that is not possible they are deselected
as well. A test that skips itself is counted in the report under its reason, and fails in CI where
that is not true of the machine (``skips``).

A test asks for corpus files in one of two ways::

    @pytest.mark.corpus
    def test_whole_folder(corpus: Path) -> None: ...

    @pytest.mark.corpus("eventlogs/*", "attack-logs/*.bin")
    def test_each_file(corpus_file: Path) -> None: ...   # one case per file, in sorted order
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest

from tests import skips
from tests.turns import in_turn

PROJECT_ROOT: Final = Path(__file__).resolve().parent.parent
SWTPM_TOOLS: Final = ("swtpm", "swtpm_setup", "swtpm_cert")

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("quick", deadline=None, derandomize=True, max_examples=20)
IN_CI: Final = bool(os.environ.get("CI"))
hypothesis.settings.load_profile("ci" if IN_CI else "dev")


@dataclass(frozen=True)
class Folder:
    """Recorded evidence that is not part of this repository.

    Attributes:
        marker: Marks the tests that need it.
        variable: The environment variable that names it.
        default: Where it is otherwise.
    """

    marker: str
    variable: str
    default: str

    @property
    def path(self) -> Path:
        """Where it is, if it is there."""
        return (PROJECT_ROOT / os.environ.get(self.variable, self.default)).resolve()

    @property
    def required(self) -> bool:
        """Whether its absence ends the run."""
        return bool(os.environ.get(self.variable.replace("_", "_REQUIRE_", 1)))

    def given(self) -> Path:
        """Return where it is; fail the test that is not marked."""
        if not self.path.is_dir():
            pytest.fail(f"no {self.marker} at {self.path}: is the test marked?", pytrace=False)
        return self.path


CORPUS: Final = Folder("corpus", "BOOTLEASE_CORPUS", "../shared/corpus")
LAB: Final = Folder("lab", "BOOTLEASE_LAB", "../shared/lab/evidence")
FOLDERS: Final = (CORPUS, LAB)

_deselected = pytest.StashKey[dict[Folder, int]]()
_root_needed = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """End the run early where required evidence is absent."""
    config.addinivalue_line("markers", "lab: needs evidence of real boots (BOOTLEASE_LAB)")
    config.addinivalue_line("markers", "root: needs to be root, to start processes of other users")
    config.stash[_deselected] = {}
    config.stash[_root_needed] = 0
    for folder in FOLDERS:
        if folder.required and not folder.path.is_dir():
            raise pytest.UsageError(
                f"{folder.variable.replace('_', '_REQUIRE_', 1)} is set and {folder.path} is not a"
                f" folder; {folder.variable} names the {folder.marker}"
            )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test with a ``corpus_file`` argument one case per file its marker names."""
    if "corpus_file" not in metafunc.fixturenames:
        return
    patterns = [
        pattern for marker in metafunc.definition.iter_markers("corpus") for pattern in marker.args
    ]
    if not patterns:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: corpus_file needs @pytest.mark.corpus(PATTERN, ...)"
        )
    root = CORPUS.path
    files = sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()})
    if not files and root.is_dir():
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: no corpus file matches {patterns}")
    # An absent corpus leaves one case, so that its deselection is counted and reported.
    metafunc.parametrize(
        "corpus_file",
        files or [root / "absent"],
        ids=[str(path.relative_to(root)) for path in files] or ["absent"],
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what needs absent evidence, or to be root; put what is left in order."""
    for folder in FOLDERS:
        needing = [item for item in items if item.get_closest_marker(folder.marker) is not None]
        if needing and not folder.path.is_dir():
            config.stash[_deselected][folder] = len(needing)
            config.hook.pytest_deselected(items=needing)
            items[:] = [item for item in items if item.get_closest_marker(folder.marker) is None]
    for_root = [item for item in items if item.get_closest_marker("root") is not None]
    if for_root and os.geteuid() != 0:
        config.stash[_root_needed] = len(for_root)
        config.hook.pytest_deselected(items=for_root)
        items[:] = [item for item in items if item not in for_root]
    files = Counter(item.nodeid.partition("::")[0] for item in items)
    turns = {file: turn for turn, file in enumerate(in_turn(files))}
    items.sort(key=lambda item: turns[item.nodeid.partition("::")[0]])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say in one line each what was left untested, and why."""
    if config.stash[_root_needed]:
        terminalreporter.write_line(
            f"{config.stash[_root_needed]} tests deselected: they start processes of other users,"
            " which only root may"
        )
    for folder, count in config.stash[_deselected].items():
        terminalreporter.write_line(
            f"{count} tests deselected: no {folder.marker} at {folder.path} ({folder.variable})"
        )
    reasons = Counter(reason_of(report) for report in terminalreporter.getreports("skipped"))
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count} tests skipped: {reason}")


def reason_of(report: pytest.TestReport) -> str:
    """Return why a test was skipped."""
    words = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return words.removeprefix("Skipped: ")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Fail a skip in CI that this machine gives no reason for."""
    report: pytest.TestReport = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = reason_of(report)
        if not skips.is_true(reason):
            report.outcome = "failed"
            report.longrepr = f"skipped, and this machine could run it: {reason}"
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that starts a software TPM where the tools for it are missing."""
    if item.get_closest_marker("swtpm") is None:
        return
    missing = [tool for tool in SWTPM_TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.fail(f"missing {', '.join(missing)}: `make setup` installs them", pytrace=False)


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of recorded evidence."""
    return CORPUS.given()


@pytest.fixture(scope="session")
def lab() -> Path:
    """The folder with evidence of real boots."""
    return LAB.given()
