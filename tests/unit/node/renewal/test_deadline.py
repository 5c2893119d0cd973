"""No lease stands after its deadline, whatever fails, hangs, or moves the clocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bootlease.errors import MalformedError
from bootlease.model import Finding
from bootlease.node.calls import UnavailableError
from bootlease.node.wish import LeaseWish
from bootlease.testing.set_clock import SetClock
from bootlease.testing.simulated_node import SimulatedNode

if TYPE_CHECKING:
    from bootlease.node.renewal.agent import NodeAgent
    from bootlease.testing.local_ca import LocalCA
    from tests.unit.node.conftest import Rig

LIFE = 30
CALLS = ("enrol", "activate", "challenge", "lease")
REFUSAL = Finding("policy.scope.denied", "The scope is not granted.")


@dataclass(frozen=True)
class Weather:
    """What becomes of the calls of one step, and of the clocks around it."""

    latency_before: float
    latency_after: float
    fails_before: str | None
    loses_answer_of: str | None
    malformed: bool
    refuses: bool
    forgets: bool
    forgets_logs: bool
    restarts: bool
    resets_tpm: bool
    wall_jump: int
    wait: float
    oversleeps: float


seconds = st.floats(0, 2 * LIFE, allow_nan=False)
rarely = st.sampled_from([False, False, False, False, True])
weather = st.builds(
    Weather,
    latency_before=st.one_of(st.just(0.0), seconds),
    latency_after=st.one_of(st.just(0.0), seconds),
    fails_before=st.one_of(st.none(), st.none(), st.sampled_from(CALLS)),
    loses_answer_of=st.one_of(st.none(), st.none(), st.sampled_from(CALLS)),
    malformed=rarely,
    refuses=rarely,
    forgets=rarely,
    forgets_logs=rarely,
    restarts=rarely,
    resets_tpm=rarely,
    wall_jump=st.one_of(st.just(0), st.just(0), st.integers(-200, 200)),
    wait=st.floats(0, 1, allow_nan=False),
    oversleeps=st.one_of(st.just(0.0), seconds),
)


class World:
    """One node and one verifier under the same time; only the node's wall clock is unsteady."""

    def __init__(self, rig: Rig, skew: int) -> None:
        """Take over a rig; the node's wall clock is off by ``skew``."""
        self.rig = rig
        self.node_clock = rig.clock
        self.true_clock = SetClock(wall=rig.clock.wall, boot=rig.clock.boot)
        rig.verifier._clock = self.true_clock
        rig.verifier.life = LIFE
        self.node_clock.wall += skew

    def pass_time(self, amount: float) -> None:
        """Let the same time pass for everybody."""
        self.node_clock.pass_time(amount)
        self.true_clock.pass_time(amount)

    def look(self) -> None:
        """Look at the lease as a workload would, at any moment."""
        valid = self.rig.keeper.valid
        if not valid:
            assert not self.rig.handed.out
            return
        held = self.rig.handed.tokens[-1]
        # To the second: the verifier issues and ends in whole seconds, rounded down.
        true_end = held.tokens[0].claims.expires_at
        assert self.true_clock.wall < true_end + 1
        assert self.node_clock.now() < true_end
        assert self.node_clock.boottime() < held.deadline


def disturb(world: World, now: Weather) -> None:
    """Do to node, verifier and network what this weather does."""
    rig = world.rig

    def before(call: str) -> None:
        world.pass_time(now.latency_before)
        world.look()
        if call == now.fails_before:
            raise UnavailableError("no route", sent=False)
        if now.malformed and call == "lease":
            raise MalformedError("unreadable")

    def after(call: str) -> None:
        world.pass_time(now.latency_after)
        world.look()
        if call == now.loses_answer_of:
            raise UnavailableError("cut off")

    rig.verifier.before, rig.verifier.after = before, after
    rig.verifier.refusal = (REFUSAL,) if now.refuses else ()
    if now.forgets:
        rig.verifier.forget_challenges()
    if now.forgets_logs:
        rig.verifier.forget_logs()
    if now.resets_tpm:
        rig.node.reboot()
    world.node_clock.wall += now.wall_jump


def play(world: World, agent: NodeAgent, now: Weather) -> NodeAgent:
    """Play one step of the agent in this weather; return the agent that goes on."""
    disturb(world, now)
    world.look()
    outcome = agent.step()
    world.look()
    assert outcome.wait >= 0
    if outcome.granted is not None:
        assert outcome.wait <= LIFE / 3
    world.pass_time(outcome.wait * now.wait)
    world.look()
    world.pass_time(now.oversleeps)
    world.look()
    if now.restarts:
        world.rig.keeper.close()
        return world.rig.start()
    return agent


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(weather, min_size=1, max_size=12), skew=st.sampled_from([0, -(10**6)]))
def test_never_valid_after_the_deadline(
    story: list[Weather], skew: int, local_ca: LocalCA, rig: Rig
) -> None:
    """Under any sequence of failures, latencies and clock moves, no lease outlives its time."""
    fresh = type(rig)(SimulatedNode(local_ca))
    fresh.node.event_log = b"log"
    world = World(fresh, skew)
    agent = fresh.start(LeaseWish(("a",), "b"))
    for now in story:
        agent = play(world, agent, now)
    # Left alone, whatever is held ends.
    world.pass_time(LIFE + 1)
    assert not fresh.keeper.valid
    assert not fresh.handed.out


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jump=st.integers(-10_000, 10_000), moments=st.lists(seconds, min_size=1, max_size=8))
def test_over_stays_over(jump: int, moments: list[float], local_ca: LocalCA, rig: Rig) -> None:
    """A lease that was seen to be over is not revived by setting a clock back."""
    fresh = type(rig)(SimulatedNode(local_ca), LIFE)
    fresh.node.event_log = b"log"
    fresh.start(LeaseWish(("a",), "b")).renew()
    seen_over = False
    for moment in moments:
        fresh.clock.pass_time(moment / 10)
        fresh.clock.wall += jump
        valid = fresh.keeper.valid
        assert not (seen_over and valid)
        seen_over = not valid
        fresh.clock.wall -= jump


def test_slow_answers_add_nothing(rig: Rig) -> None:
    """A lease counts from when its challenge was asked for, however late the answer came."""
    world = World(rig, -(10**6))
    agent = rig.start()

    def slow(call: str) -> None:
        if call == "lease":
            world.pass_time(10)

    rig.verifier.after = slow
    agent.renew()
    lease = agent.renew()
    true_end = lease.tokens[0].claims.expires_at
    world.pass_time(true_end - world.true_clock.wall - 0.01)
    assert rig.keeper.current() is not None
    world.pass_time(0.02)
    assert rig.keeper.current() is None
