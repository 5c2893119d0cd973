"""When the agent attests out of turn."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest

from bootlease.errors import TransportError, VerificationError
from bootlease.model import Finding
from bootlease.node import schedule
from bootlease.node.observing import Outcome
from bootlease.node.schedule import Schedule
from bootlease.node.wakeup import Wakeup
from bootlease.node.wish import LeaseWish
from bootlease.node.wishbook import Wishes
from bootlease.testing.set_clock import SetClock

WISH = LeaseWish(("a",), "b")
REFUSED = VerificationError(Finding("a.b", "No."))


@dataclass
class Waited:
    """A wakeup by which time passes instead of being waited for."""

    clock: SetClock
    notified: bool = False
    hurry_after: float | None = None
    waits: list[float] = field(default_factory=list)

    def notify(self) -> None:
        """Remember it."""
        self.notified = True

    def wait(self, seconds: float) -> bool:
        """Let time pass, unless notified."""
        notified, self.notified = self.notified, False
        if not notified:
            self._pass(seconds)
        return notified

    def hurried(self, seconds: float = 0.0) -> bool:
        """Let time pass, unless there is a hurry."""
        if self.hurry_after is not None and self.hurry_after <= seconds:
            self._pass(self.hurry_after)
            return True
        self._pass(seconds)
        return False

    def _pass(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.pass_time(seconds)


class Scene:
    """A schedule, and the time that it lets pass."""

    def __init__(self) -> None:
        """Begin."""
        self.clock = SetClock()
        self.wakeup = Waited(self.clock)
        self.wishes = Wishes(on_new=self.wakeup.notify)
        self.schedule = Schedule(self.wishes, self.wakeup, self.clock)  # type: ignore[arg-type]

    def wait(self, outcome: Outcome) -> float:
        """Return how long was waited, by the clock."""
        began = self.clock.boottime()
        self.schedule.wait(outcome)
        self.wishes.ask(self.clock.boottime())
        return self.clock.boottime() - began


@pytest.fixture
def scene() -> Scene:
    """A schedule with an empty book."""
    return Scene()


def test_in_turn(scene: Scene) -> None:
    """Without a new wish the next attempt is when it is due, looked at every few seconds."""
    assert scene.wait(Outcome(40.0)) == pytest.approx(40)
    assert max(scene.wakeup.waits) <= schedule.LOOK


def test_asleep(scene: Scene) -> None:
    """A machine that slept over the due time attests at the next look."""
    waited = scene.wakeup.wait

    def slept(seconds: float) -> bool:
        scene.clock.pass_time(1000)
        return waited(seconds)

    scene.wakeup.wait = slept  # type: ignore[method-assign]
    assert scene.wait(Outcome(40.0)) < 1000 + 2 * schedule.LOOK


@pytest.mark.parametrize(
    ("outcome", "seconds"),
    [
        (Outcome(40.0), schedule.APART),
        (Outcome(40.0, error=TransportError("gone")), schedule.APART_UNREACHED),
        (Outcome(40.0, error=REFUSED), schedule.APART_REFUSED),
    ],
)
def test_out_of_turn(scene: Scene, outcome: Outcome, seconds: float) -> None:
    """A wish is served soon, less soon where the last attempt brought nothing."""
    scene.wishes.add(WISH)
    assert scene.wait(outcome) == pytest.approx(seconds)


def test_gathering(scene: Scene) -> None:
    """Who wishes long after the last attempt waits a moment for others to come along."""
    waited = scene.wakeup.wait

    def wished(seconds: float) -> bool:
        if scene.clock.boottime() >= 1020:
            scene.wishes.add(WISH)
        return waited(seconds)

    scene.wakeup.wait = wished  # type: ignore[method-assign]
    assert scene.wait(Outcome(40.0)) == pytest.approx(20 + schedule.GATHER)


def test_bursts_are_bounded(scene: Scene) -> None:
    """In the life of a lease there are fewer attempts than a verifier grants, however many wish."""
    attempts = 0
    began = scene.clock.boottime()
    while scene.clock.boottime() < began + 120:
        scene.wishes.add(WISH)
        scene.wishes.remove(scene.wishes.add(WISH))
        scene.schedule._allowance.life = 120.0
        scene.wait(Outcome(40.0))
        attempts += 1
        if len(scene.wishes) > 200:
            for wished in scene.wishes.snapshot():
                scene.wishes.remove(wished.id)
    assert attempts <= 2 * schedule.BURST + 4


def test_a_lease_that_ended_is_not_waited_for(scene: Scene) -> None:
    """A hurry ends every wait."""
    scene.wakeup.hurry_after = 0.0
    assert scene.wait(Outcome(300.0)) == 0


def test_wakeup() -> None:
    """A notice is taken once, a hurry by who waits for one, from any thread."""
    wakeup = Wakeup()
    assert not wakeup.wait(0)
    wakeup.notify()
    assert wakeup.wait(5)
    assert not wakeup.wait(0)
    assert not wakeup.hurried()
    threading.Timer(0.05, wakeup.hurry).start()
    began = time.monotonic()
    assert wakeup.hurried(5)
    assert time.monotonic() - began < 4
    assert not wakeup.hurried()
