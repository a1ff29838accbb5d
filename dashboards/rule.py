"""What a recording rule and an alert are. Their queries come from the metric list or from another rule's record."""

import re
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

from dashboards.promql import Query, known

PREFIX = "Trainwatt"


class Severity(StrEnum):
    """What an alert asks of people."""

    CRITICAL = auto()
    """Somebody has to do something now."""
    WARNING = auto()
    """Somebody should look at it in the course of the day."""
    INFO = auto()
    """Worth knowing; nothing is at fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A recording rule. Its name is `level:family:operation`; its level names every label that it has, in order.

    Raises ValueError when the level is not the labels of the query.
    """

    level: tuple[str, ...] = ()
    """Empty = one value for the whole cluster."""
    family: str
    operation: str
    query: Query
    help: str

    def __post_init__(self) -> None:
        """Refuse a name that says other labels than there are."""
        if set(self.level) != self.query.labels:
            raise ValueError(f"{self.name} is by {sorted(self.query.labels)}")

    @property
    def name(self) -> str:
        """As queries have it."""
        return f"{'_'.join(self.level) or 'cluster'}:{self.family}:{self.operation}"

    @property
    def series(self) -> Query:
        """What has been recorded last."""
        return Query(self.name, self.query.labels)

    def document(self) -> dict[str, Any]:
        """As it stands in a rules file."""
        return {"record": self.name, "expr": self.query.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alerting rule; its labels are those of its query and `severity`.

    Raises ValueError when its words name a label that the query has not.
    """

    name: str
    when: str
    """The condition in words, with its threshold."""
    query: Query
    lasts: str
    """So long the condition has to hold, as Prometheus writes durations."""
    severity: Severity
    summary: str
    """One sentence: what is wrong, with where or whom."""
    remedy: str
    """What to do, as a command or a step."""

    def __post_init__(self) -> None:
        """Refuse a name without the prefix, and words that would be blank when the alert comes."""
        if not re.fullmatch(f"{PREFIX}[A-Z][A-Za-z]+", self.name):
            raise ValueError(f"{self.name} does not begin with {PREFIX}")
        known(re.findall(r"\$labels\.(\w+)", self.summary + self.remedy), self.query.labels, self.name)

    def document(self) -> dict[str, Any]:
        """As it stands in a rules file."""
        return {
            "alert": self.name,
            "expr": self.query.text,
            "for": self.lasts,
            "labels": {"severity": str(self.severity)},
            "annotations": {"summary": self.summary, "description": self.remedy},
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated one after the other, at one moment."""

    name: str
    rules: tuple[Record | Alert, ...]

    def document(self) -> dict[str, Any]:
        """As it stands in a rules file."""
        return {"name": self.name, "rules": [rule.document() for rule in self.rules]}
