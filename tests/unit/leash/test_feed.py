"""What the agent says, across its restarts, without the guard's waiting."""

from __future__ import annotations

import select
from pathlib import Path

import pytest

from bootlease.leash.feed import Away, Feed, Said
from bootlease.localapi import Denied, Granted
from bootlease.model import Finding
from bootlease.testing.scripted_agent import ScriptedAgent
from bootlease.workload import WorkloadClient, new_handle


@pytest.fixture
def agent(tmp_path: Path) -> ScriptedAgent:
    """An agent, not started."""
    return ScriptedAgent(tmp_path / "socket", life=60)


def feed_from(agent: ScriptedAgent) -> Feed:
    """Return a feed that asks it, under one handle."""
    client, handle = WorkloadClient(agent.path), new_handle()
    feed = Feed(lambda: client.lease(("a",), "b", handle=handle))
    feed.start()
    return feed


def heard(feed: Feed, kind: type[Said]) -> Said:
    """Wait for something of one kind."""
    poll = select.poll()
    poll.register(feed.fileno(), select.POLLIN)
    for _ in range(500):
        assert poll.poll(5000), f"no {kind.__name__} was heard"
        for said in feed.take():
            if isinstance(said, kind):
                return said
    pytest.fail(f"no {kind.__name__} among much")


def test_agent_that_is_not_there_yet(agent: ScriptedAgent) -> None:
    """Asking goes on until an agent comes."""
    feed = feed_from(agent)
    away = heard(feed, Away)
    assert isinstance(away, Away)
    assert "no agent answers" in away.error
    with agent:
        assert isinstance(heard(feed, Granted), Granted)


def test_agent_that_comes_back(agent: ScriptedAgent) -> None:
    """After a restart of the agent the same lease is asked for, under the same handle."""
    with agent:
        feed = feed_from(agent)
        heard(feed, Granted)
        agent.hang_up()
        heard(feed, Away)
        heard(feed, Granted)
        assert len({ask.handle for ask in agent.asks}) == 1


def test_handle_still_in_use(agent: ScriptedAgent) -> None:
    """An agent that has not noticed the old connection's end is asked again, not believed."""
    agent.refuse(Finding("workload.handle.in-use", "It is in use."), status=409)
    with agent:
        feed = feed_from(agent)
        agent.refuse()
        heard(feed, Granted)


def test_refusal_ends_the_asking(agent: ScriptedAgent) -> None:
    """A refusal is told as one, and nothing more is asked."""
    agent.refuse(Finding("workload.rule.none", "No rule permits it."))
    with agent:
        feed = feed_from(agent)
        denied = heard(feed, Denied)
        assert isinstance(denied, Denied)
        assert denied.findings[0].id == "workload.rule.none"


def test_nothing_waits_in_take() -> None:
    """Taking what was said returns at once, also when nothing was."""
    feed = Feed(lambda: pytest.fail("nobody asks"))
    assert feed.take() == []
