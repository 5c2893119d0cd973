"""What every test of this tree shares: the corpus, the tools it needs, hypothesis profiles.

The corpus is a folder of recorded evidence that is not part of this repository. It is found
through ``BOOTLEASE_CORPUS``; a relative path counts from the project's root. Where the folder
is absent, the tests that need it are deselected and the report says how many; where
``BOOTLEASE_REQUIRE_CORPUS`` is set, its absence ends the run.

A test asks for corpus files in one of two ways::

    @pytest.mark.corpus
    def test_whole_folder(corpus: Path) -> None: ...

    @pytest.mark.corpus("eventlogs/*", "attack-logs/*.bin")
    def test_each_file(corpus_file: Path) -> None: ...   # one case per file, in sorted order
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import hypothesis
import pytest

PROJECT_ROOT: Final = Path(__file__).resolve().parent.parent
DEFAULT_CORPUS: Final = "../shared/corpus"
SWTPM_TOOLS: Final = ("swtpm", "swtpm_setup", "swtpm_cert")

hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")

_deselected = pytest.StashKey[int]()


def _corpus_folder() -> Path:
    return (PROJECT_ROOT / os.environ.get("BOOTLEASE_CORPUS", DEFAULT_CORPUS)).resolve()


def pytest_configure(config: pytest.Config) -> None:
    """End the run early where a required corpus is absent."""
    config.stash[_deselected] = 0
    if os.environ.get("BOOTLEASE_REQUIRE_CORPUS") and not _corpus_folder().is_dir():
        raise pytest.UsageError(
            f"BOOTLEASE_REQUIRE_CORPUS is set and {_corpus_folder()} is not a folder;"
            " BOOTLEASE_CORPUS names the corpus"
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
    root = _corpus_folder()
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
    """Deselect what needs an absent corpus."""
    if _corpus_folder().is_dir():
        return
    needing = [item for item in items if item.get_closest_marker("corpus") is not None]
    if needing:
        config.stash[_deselected] = len(needing)
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item.get_closest_marker("corpus") is None]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say in one line what an absent corpus left untested."""
    if count := config.stash[_deselected]:
        terminalreporter.write_line(
            f"{count} tests deselected: no corpus at {_corpus_folder()} (BOOTLEASE_CORPUS)"
        )


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
    folder = _corpus_folder()
    if not folder.is_dir():
        pytest.fail(f"no corpus at {folder}: is the test marked `corpus`?", pytrace=False)
    return folder
