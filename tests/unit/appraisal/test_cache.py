"""The memo of verdicts: bounded, and never the reason for a result."""

from __future__ import annotations

import dataclasses
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootlease.appraisal import AppraisalCache, verdict_known
from bootlease.appraisal.boot import verdict_key
from bootlease.appraisal.cache import BootVerdict
from bootlease.model import HashAlg
from bootlease.testing.boot import simulate_boot
from bootlease.testing.examples import grub_description
from bootlease.testing.local_ca import LocalCA
from bootlease.testing.scene import POLICY, Scene

VERDICT = BootVerdict((), (), (), None, ())
BANK = HashAlg.SHA256


def test_the_least_recently_used_verdict_leaves() -> None:
    """Memory is bounded, whoever asks."""
    cache = AppraisalCache(2)
    cache.put((1,), VERDICT)
    cache.put((2,), VERDICT)
    assert cache.get((1,)) is VERDICT
    cache.put((3,), VERDICT)
    assert cache.get((2,)) is None
    assert cache.get((1,)) is VERDICT
    assert len(cache) == 2


def test_an_empty_cache_is_no_cache() -> None:
    """A size that holds nothing is a mistake."""
    with pytest.raises(ValueError, match="at least one"):
        AppraisalCache(0)


def test_threads_may_share_a_cache() -> None:
    """A verdict that one thread pushes out while another reads it harms neither."""
    cache = AppraisalCache(2, threading.Lock())
    start = threading.Barrier(4)

    def use(offset: int) -> None:
        start.wait()
        for number in range(4000):
            cache.put((number + offset,), VERDICT)
            for near in range(3):
                assert cache.get((number + near,)) in {None, VERDICT}

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(use, range(4)))
    finally:
        sys.setswitchinterval(interval)
    assert len(cache) == 2


def test_a_known_verdict_needs_no_log(scene: Scene) -> None:
    """A renewal by log digest is decided without the log being loaded."""
    scene.cache = AppraisalCache()
    scene.begin()
    assert scene.prior is not None
    challenge = scene.challenge()
    document = scene.attest(challenge, previous=scene.prior.head, full=False)
    evidence = scene.verify(document, challenge)
    known = verdict_known(scene.cache, evidence, scene.references, scene.policy, now=scene.now)
    assert known
    assert scene.appraise(evidence, challenge).accepted
    assert not verdict_known(
        AppraisalCache(), evidence, scene.references, scene.policy, now=scene.now
    )


def key_of(scene: Scene, **quote: object) -> tuple[object, ...]:
    """Return the key of the boot of a scene, with some of the quote changed."""
    challenge = scene.challenge()
    evidence = scene.verify(scene.attest(challenge), challenge)
    changed = SimpleNamespace(
        log_digests=evidence.log_digests,
        quote=SimpleNamespace(
            **{
                "pcr_digest": evidence.quote.pcr_digest,
                "selections": evidence.quote.selections,
                **quote,
            }
        ),
    )
    rules = scene.policy.policy
    return verdict_key(changed, scene.references, rules, scene.now)  # type: ignore[arg-type]  # what it reads


def test_a_verdict_is_one_policys(scene: Scene) -> None:
    """What another policy made of the same boot is no answer under this one."""
    before = key_of(scene)
    assert key_of(scene) == before
    scene.use_policy(POLICY.replace('unsafe_clock = "refuse"', 'unsafe_clock = "note"'))
    assert key_of(scene) != before


def test_a_verdict_is_one_selections(scene: Scene) -> None:
    """One digest may stand for two selections: values have an order and no names."""
    (selection,) = scene.verify(scene.attest(c := scene.challenge()), c).quote.selections
    other = selection._replace(pcrs=(*selection.pcrs[:-1], selection.pcrs[-1] + 1))
    assert key_of(scene, selections=(other,)) != key_of(scene)


def test_a_missing_log_is_not_remembered(scene: Scene) -> None:
    """That a log was not at hand says nothing about the boot."""
    scene.cache = AppraisalCache()
    challenge = scene.challenge()
    evidence = scene.verify(scene.attest(challenge, full=False), challenge)
    assert not scene.appraise(evidence, challenge).accepted
    assert scene.decide().accepted


@pytest.fixture(scope="module")
def shared(ca: LocalCA) -> Scene:
    """One node for many examples."""
    return Scene.create(ca, match_events=(8,))


COMMAND_LINES = st.sampled_from(["root=/dev/vda1 ro quiet lockdown=integrity", "quiet", "debug"])
STEP = st.tuples(
    st.sampled_from([POLICY, POLICY.replace(", 8, 9, 14]", "]"), POLICY.replace("120", "60")]),
    st.one_of(st.none(), COMMAND_LINES),
    st.sampled_from([None, 4, 14]),
    st.booleans(),
    st.integers(0, 3),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, min_size=1, max_size=6))
def test_the_cache_changes_no_result(
    shared: Scene, steps: list[tuple[str, str | None, int | None, bool, int]]
) -> None:
    """Whatever was decided before, a decision with the memo is the decision without it."""
    cache = AppraisalCache(3)
    (golden,) = shared.references
    for policy, command_line, extended, limited, seconds in steps:
        shared.use_policy(policy)
        if command_line is not None:
            shared.node.boot(simulate_boot(grub_description().with_command_line(command_line)))
        if extended is not None:
            shared.node.pcr_extend(extended, {BANK: bytes(32)})
        not_after = shared.now + 1 if limited else None
        sets = (dataclasses.replace(golden, not_after=not_after),)
        challenge = shared.challenge()
        evidence = shared.verify(shared.attest(challenge), challenge)
        for moment in (shared.now, shared.now + seconds):
            with_cache = dataclasses.replace(shared, references=sets, cache=cache, now=moment)
            without = dataclasses.replace(with_cache, cache=None)
            assert with_cache.appraise(evidence, challenge) == without.appraise(evidence, challenge)
