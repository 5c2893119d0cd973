"""From what a workload asks, and the rule that permits it, to a wish of the agent's."""

from __future__ import annotations

from bootlease.evidence import TokenEncoding
from bootlease.localapi import LeaseAsk
from bootlease.node.confirm import Confirmation, ConfirmationKey, OwnKey
from bootlease.node.wish import LeaseWish
from bootlease.node.wishbook import Holder
from bootlease.node.workloads.peers import Peer
from bootlease.node.workloads.problems import no_such_key
from bootlease.node.workloads.rules import Rule


def wish_of(rule: Rule, ask: LeaseAsk) -> LeaseWish:
    """Return what to wish for; the level as far as the rule believes it."""
    return LeaseWish(
        scope=ask.scope,
        audience=ask.audience,
        encoding=TokenEncoding(ask.encoding.value),
        level=rule.believed(ask.level),
        optional=True,
    )


def key_of(ask: LeaseAsk) -> Confirmation | ConfirmationKey:
    """Return whom the lease is for.

    Raises:
        ProblemError: The agent makes no such key.
    """
    if ask.key is not None:
        return OwnKey(ask.key)
    try:
        return Confirmation(ask.confirmation.value)
    except ValueError as exc:
        raise no_such_key() from exc


def holder_of(peer: Peer, rule: Rule) -> Holder:
    """Return whose the wish is."""
    return Holder(rule.name, peer.credentials.pid, peer.credentials.uid, peer.exe)
