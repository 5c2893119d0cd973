"""docs/agent.md and the examples say what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import bootlease
from bootlease.node.renewal.denials import DENIALS
from bootlease.node.service.config import parse_config
from bootlease.node.service.metrics import AgentMetrics
from bootlease.node.wishbook import Wishes

if TYPE_CHECKING:
    from .conftest import Rig

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "agent.md").read_text()
SOURCE = Path(bootlease.__file__).parent
NAME = re.compile(r'Event\(\s*f?"([a-z.{}-]+)"')
KEY = re.compile(
    r"(?:table|verifier|file)\.(?:text|texts|path|optional_path|choice|flag|integer|table|tables|has)"
    r'\(\s*"([a-z_]+)"'
)


def test_every_event_is_on_the_page() -> None:
    """The page has a row for each event that the agent logs, and for no other."""
    named = {
        name for path in (SOURCE / "node").rglob("*.py") for name in NAME.findall(path.read_text())
    }
    named |= {"workload.opened", "workload.closed", "agent.note"}
    named -= {"workload.{what}"}
    log = PAGE[PAGE.index("## Log") : PAGE.index("## Metrics")]
    told = set(re.findall(r"`([a-z]+\.[a-z-]+)`", log))
    assert told == named


def test_every_metric_is_on_the_page(rig: Rig) -> None:
    """The page names each metric family and its label."""
    rig.start()
    served = AgentMetrics(rig.keeper, Wishes(), rig.clock, lambda: 0).exposition().decode()
    families = dict(re.findall(r"^# TYPE (\S+) (\S+)$", served, re.MULTILINE))
    ending = {"counter": "_total", "info": "_info"}
    for name, kind in families.items():
        assert f"`{name}{ending.get(kind, '')}" in PAGE
    assert "_total{result}`" in PAGE
    assert "_total{reason}`" in PAGE


def test_every_key_is_on_the_page() -> None:
    """The page names each key of the configuration."""
    keys = set(KEY.findall((SOURCE / "node" / "service" / "config.py").read_text()))
    assert len(keys) > 20
    assert not {key for key in keys if f"`{key}`" not in PAGE and f"[{key}]" not in PAGE}


def test_the_example_is_a_configuration() -> None:
    """The example parses, and the unit starts the agent with the options that there are."""
    config = parse_config((ROOT / "examples" / "agent.toml").read_bytes())
    assert len(config.keep) == len(config.rules.rules) == 1


@pytest.mark.parametrize("name", ["bootlease-agent.service", "bootlease-agent.socket"])
def test_units_and_example_agree(name: str) -> None:
    """Units, example and code name the same socket, directories and file descriptor."""
    config = parse_config((ROOT / "examples" / "agent.toml").read_bytes())
    unit = (ROOT / "examples" / "systemd" / name).read_text()
    assert config.api is not None
    if name.endswith(".socket"):
        assert f"ListenStream={config.api.socket}\n" in unit
        assert "FileDescriptorName=workload\n" in unit
        return
    assert "node run --config /etc/bootlease/agent.toml --log-format json\n" in unit
    assert f"StateDirectory={config.node.state.name}\n" in unit
    assert f"RuntimeDirectory={config.api.socket.parent.name}\n" in unit


def test_denials_are_those_of_the_verifier() -> None:
    """What counts as said of one lease alone is what the verifier says of one."""
    source = (SOURCE / "appraisal" / "leases.py").read_text()
    ids = set(re.findall(r'"((?:policy|lease)\.[a-z.-]+)"', source))
    assert ids - DENIALS == {"lease.life.over", "policy.unsafe-bearer.granted"}
    # Which leash key a lease needs is seen where its key is verified, before policy.
    assert DENIALS - ids == {"expiring-key.authority.mismatch"}
