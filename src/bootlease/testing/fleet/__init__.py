"""A fleet of software TPMs in one process: real keys, real quotes, real HTTP."""

from bootlease.testing.fleet.connections import ConnectionPool, Response, request
from bootlease.testing.fleet.node import FleetImage, FleetNode
from bootlease.testing.fleet.steps import (
    ProblemAnswerError,
    ask,
    attest,
    begin,
    enrol,
    error_kind,
    problem_kind,
)

__all__ = [
    "ConnectionPool",
    "FleetImage",
    "FleetNode",
    "ProblemAnswerError",
    "Response",
    "ask",
    "attest",
    "begin",
    "enrol",
    "error_kind",
    "problem_kind",
    "request",
]
