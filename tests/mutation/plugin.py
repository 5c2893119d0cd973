"""Run the mutants: a pytest plugin that collects the tests once and forks for every mutant.

First every test runs once, and it is noted which lines of the changed modules it reaches. Then,
for each mutant, a forked process swaps the changed function's code in and runs the tests that
reach the changed statement, those of the module's own file first, until one fails. Nothing is
imported anew, so a mutant costs milliseconds; what a module computes when it is imported is not
changed.

    python -m pytest -p tests.mutation.plugin --hypothesis-profile=mutants \
        --mutants FILE --mutant-results FILE TESTS...
"""

from __future__ import annotations

import functools
import gc
import json
import os
import resource
import signal
import sys
import threading
import time
import types
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest

from tests.mutation.forking import forked
from tests.mutation.mutant import NOT_TRIED, SURVIVED, TIMEOUT, UNREACHED, Mutant, read_mutants

# A test that fails is enough: no failing example is made smaller or kept.
hypothesis.settings.register_profile(
    "mutants",
    deadline=None,
    derandomize=True,
    max_examples=20,
    database=None,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)

_MEMORY: Final = 6 << 30
_TRACED: Final = 3600.0
"""Seconds for all tests, traced."""

Lines = set[tuple[str, int]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the files, and how many processes run at once."""
    group = parser.getgroup("mutants")
    group.addoption("--mutants", type=Path)
    group.addoption("--mutant-results", type=Path)
    group.addoption("--mutants-at-once", type=int, default=os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Run the mutants in place of the tests."""
    config = session.config
    mutants = [each for each in read_mutants(config.getoption("mutants")) if each.is_tried]
    results = _Run(session, config.getoption("mutants_at_once"), mutants).results()
    config.getoption("mutant_results").write_text(json.dumps(results, indent=1))
    return True


class _Fails:
    """Notes which test failed."""

    def __init__(self) -> None:
        self.failed = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure."""
        if report.failed:
            self.failed = self.failed or report.nodeid


class _Run:
    def __init__(self, session: pytest.Session, at_once: int, mutants: list[Mutant]) -> None:
        self._config = session.config
        self._at_once = at_once
        self._mutants = mutants
        self._items = {item.nodeid: item for item in session.items}
        # A module that no test imports has no file here, and its mutants no test.
        self._files = {
            name: str(sys.modules[name].__file__)
            for name in {each.module for each in mutants}
            if name in sys.modules
        }
        self._functions = _functions(set(self._files.values()))
        self._took: dict[str, float] = {}
        self._reaching: dict[tuple[str, int], set[str]] = defaultdict(set)
        self._noticed: dict[str, list[str]] = defaultdict(list)
        _forget(set(self._files.values()))
        gc.collect()
        gc.freeze()

    def results(self) -> dict[str, str]:
        """Return what became of each mutant: the test that noticed it, or that none did."""
        self._reach()
        found = {each.name: UNREACHED for each in self._mutants}
        tried = [each for each in self._mutants if self._tests(each)]
        began = time.monotonic()
        for mutant, answer in forked(tried, self._try, self._limit, at_once=self._at_once):
            result = answer if answer is not None else TIMEOUT
            found[mutant.name] = result
            if "::" in result:
                self._remember(mutant, result)
            took = time.monotonic() - began
            sys.__stderr__.write(f"{took:.1f} {mutant.name} {result}\n")  # type: ignore[union-attr]
        return found

    def _reach(self) -> None:
        """Note, of every test, how long it takes and which lines it reaches."""
        ids = list(self._items)
        chunks = [ids[start :: self._at_once] for start in range(self._at_once)]
        for _, answer in forked(chunks, self._trace, lambda _: _TRACED, at_once=self._at_once):
            part = json.loads(answer or "{}")
            if "failed" in part or not part:
                pytest.exit(f"without any mutant: {part}", returncode=1)
            for nodeid, (took, lines) in part.items():
                self._took[nodeid] = took
                for file, line in lines:
                    self._reaching[file, line].add(nodeid)

    def _trace(self, ids: list[str]) -> str:
        files = set(self._files.values())
        fails = _Fails()
        self._config.pluginmanager.register(fails)
        reached = {}
        for at, nodeid in enumerate(ids):
            hits: Lines = set()
            tracer = _tracer(files, hits)
            threading.settrace(tracer)
            began = time.perf_counter()
            sys.settrace(tracer)
            self._run(ids, at)
            sys.settrace(None)
            if fails.failed:
                return json.dumps({"failed": fails.failed})
            reached[nodeid] = (time.perf_counter() - began, sorted(hits))
        return json.dumps(reached)

    def _tests(self, mutant: Mutant) -> list[str]:
        """Return the tests that reach the mutant, in the order in which to run them."""
        file = self._files.get(mutant.module, "")
        lines = range(mutant.first, mutant.last + 1)
        found = set[str]().union(*(self._reaching[file, line] for line in lines))
        own = f"/test_{mutant.module.rpartition('.')[2]}"
        ordered = sorted(found, key=lambda each: (own not in each, self._took[each], each))
        likely = self._noticed[f"{mutant.module}:{mutant.function}"][:-4:-1]
        return [*(each for each in likely if each in found), *ordered]

    def _remember(self, mutant: Mutant, test: str) -> None:
        # It may notice the function's other mutants as well.
        known = self._noticed[f"{mutant.module}:{mutant.function}"]
        if test in known:
            known.remove(test)
        known.append(test)

    def _limit(self, mutant: Mutant) -> float:
        return 60 + 20 * sum(self._took[each] for each in self._tests(mutant))

    def _try(self, mutant: Mutant) -> str:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        functions = self._functions.get((self._files[mutant.module], mutant.function))
        if not functions:
            return NOT_TRIED
        changed = _changed(mutant)
        for function in functions:
            _swap(function, changed, mutant)
        fails = _Fails()
        self._config.pluginmanager.register(fails)
        ids = self._tests(mutant)
        for at, nodeid in enumerate(ids):
            # Seconds of the processor first, which a busy machine does not lengthen: a mutant that
            # loops without end dies of the one, and one that waits without end of the other.
            signal.setitimer(signal.ITIMER_PROF, 0.5 + 5 * self._took[nodeid])
            signal.setitimer(signal.ITIMER_REAL, 20 + 20 * self._took[nodeid])
            try:
                self._run(ids, at)
            except BaseException:  # noqa: BLE001 - what ends pytest itself is noticed as well
                return nodeid
            if fails.failed:
                return nodeid
        return SURVIVED

    def _run(self, ids: list[str], at: int) -> None:
        item = self._items[ids[at]]
        following = self._items[ids[at + 1]] if at + 1 < len(ids) else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)


def _forget(files: set[str]) -> None:
    """Empty the caches that collecting the tests has filled: what is in them would not run."""
    for each in gc.get_objects():
        if isinstance(each, functools._lru_cache_wrapper) and _file_of(each) in files:
            each.cache_clear()


def _file_of(cached: Any) -> str:
    code = getattr(cached.__wrapped__, "__code__", None)
    return code.co_filename if isinstance(code, types.CodeType) else ""


def _tracer(files: set[str], hits: Lines) -> Callable[..., Any]:
    def local(frame: types.FrameType, event: str, _: object) -> object:
        if event == "line":
            hits.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    def begin(frame: types.FrameType, _event: str, _: object) -> object:
        if frame.f_code.co_filename not in files:
            return None
        hits.add((frame.f_code.co_filename, frame.f_lineno))
        return local

    return begin


def _functions(files: set[str]) -> dict[tuple[str, str], list[types.FunctionType]]:
    """Find the functions of these files, wherever a decorator hid them."""
    found: dict[tuple[str, str], list[types.FunctionType]] = defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, types.FunctionType) and each.__code__.co_filename in files:
            found[each.__code__.co_filename, each.__code__.co_qualname].append(each)
    return dict(found)


def _changed(mutant: Mutant) -> types.FunctionType:
    module = sys.modules[mutant.module]
    source = f"from __future__ import annotations\n{mutant.source}"
    code = compile(source, str(module.__file__), "exec", dont_inherit=True)
    names = dict(vars(module))
    exec(code, names)  # noqa: S102 - our own source, with one change
    owner, _, name = mutant.function.rpartition(".")
    made = vars(names[owner])[name] if owner else names[name]
    assert isinstance(made, types.FunctionType)
    return made


def _swap(function: types.FunctionType, changed: types.FunctionType, mutant: Mutant) -> None:
    if len(function.__code__.co_freevars) == len(changed.__code__.co_freevars):
        # In place: whoever imported the function, or wrapped it, has the changed one.
        function.__code__ = changed.__code__
        function.__defaults__ = changed.__defaults__
        function.__kwdefaults__ = changed.__kwdefaults__
        return
    owner, _, name = mutant.function.rpartition(".")
    setattr(vars(sys.modules[mutant.module])[owner], name, changed)
