"""Explaining decisions: what changed, where, since when, and what an operator can do.

Pure: a recorded decision or an appraisal in, an :class:`Explanation` out. It decides nothing.
"""

from bootlease.explain.advice import EVENT_LOG, IMA_LIST, PCRS, REFERENCE, Names
from bootlease.explain.build import Appraised, explain
from bootlease.explain.pieces import LookingBack, Pieces, gather
from bootlease.explain.recorded import (
    Explained,
    ExplanationSource,
    RecordedBoot,
    explain_decision,
    recorded_boot,
    values_file,
)
from bootlease.explain.values import (
    Advice,
    Change,
    Changes,
    DecisionFacts,
    Explanation,
    History,
    Nearest,
    PCRTimeline,
    Status,
    TimelineEvent,
)

__all__ = [
    "EVENT_LOG",
    "IMA_LIST",
    "PCRS",
    "REFERENCE",
    "Advice",
    "Appraised",
    "Change",
    "Changes",
    "DecisionFacts",
    "Explained",
    "Explanation",
    "ExplanationSource",
    "History",
    "LookingBack",
    "Names",
    "Nearest",
    "PCRTimeline",
    "Pieces",
    "RecordedBoot",
    "Status",
    "TimelineEvent",
    "explain",
    "explain_decision",
    "gather",
    "recorded_boot",
    "values_file",
]
