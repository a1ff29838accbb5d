"""How far a run has come: the absolute counts of its processes put together, also over their ends. No I/O."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from monitor.core.model import Progress
from monitor.errors import FailureError
from monitor.runs.identity import Process

MOST_REPORTERS = 256
"""Processes of a run that are counted apart."""
LARGEST_COUNT = 10**18


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one process says of itself, since it began. None = it does not tell."""

    steps: int | None = None
    tokens: int | None = None
    samples: int | None = None
    done_ratio: float | None = None

    def plus(self, other: "Told") -> "Told":
        """Brought up to date: a count never falls, and what is not told stays."""
        return Told(
            steps=_most(self.steps, other.steps),
            tokens=_most(self.tokens, other.tokens),
            samples=_most(self.samples, other.samples),
            done_ratio=self.done_ratio if other.done_ratio is None else other.done_ratio,
        )


def told(
    *,
    steps: float | None = None,
    tokens: float | None = None,
    samples: float | None = None,
    done: float | None = None,
    total: float | None = None,
) -> Told:
    """Check what a process says. Raises FailureError with one line."""
    counts = {"steps": steps, "tokens": tokens, "samples": samples}
    checked = {name: None if value is None else _count(name, value) for name, value in counts.items()}
    return Told(**checked, done_ratio=_ratio(done, total))


def _count(name: str, value: float) -> int:
    amount = _amount(name, value)
    if amount != int(amount):
        raise FailureError(f"{name} = {value}: expected a whole number")
    return int(value)


def _amount(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FailureError(f"{name}: expected a number")
    if not 0 <= value <= LARGEST_COUNT or math.isnan(value):
        raise FailureError(f"{name}: expected a number from 0 to 1e18")
    return value


def _ratio(done: float | None, total: float | None) -> float | None:
    if done is None and total is None:
        return None
    if done is None or total is None:
        raise FailureError("done and total go together: send both, such as done=5 total=10")
    of = _amount("total", total)
    if of == 0:
        raise FailureError("total = 0: expected what there is to do")
    return min(1.0, _amount("done", done) / of)


def _most(one: int | None, other: int | None) -> int | None:
    return max((count for count in (one, other) if count is not None), default=None)


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


@dataclass(slots=True)
class Tally:
    """Who reported what. Steps are those of the furthest process, tokens and samples those of all together.

    Processes that report after all before them have gone (an elastic restart, a requeue) go on from there: theirs are
    counted on top.
    """

    base: Told = field(default_factory=Told)
    """Of the generations before: complete."""
    merged: Told = field(default_factory=Told)
    """Of processes of this generation that have gone and are no longer kept apart."""
    reporters: dict[Process, Told] = field(default_factory=dict)
    gone: set[Process] = field(default_factory=set)

    def report(self, process: Process, said: Told) -> bool:
        """Take what a process says; whether that changed anything. Raises FailureError when too many are alive."""
        known = self.reporters.get(process)
        if known is None:
            if self.gone.issuperset(self.reporters):
                self.close()
            elif len(self.reporters) >= MOST_REPORTERS:
                self._merge_one()
            known = Told()
        now = known.plus(said)
        if now == known and process in self.reporters:
            return False
        self.reporters[process] = now
        return True

    def others(self, process: Process) -> list[Process] | None:
        """Who has reported and has not gone, for a process that reports for the first time; None for a known one."""
        return None if process in self.reporters else [one for one in self.reporters if one not in self.gone]

    def leave(self, process: Process) -> None:
        """The process has ended. What it said and is still to be read may come later."""
        if process in self.reporters:
            self.gone.add(process)

    def retire(self, process: Process) -> None:
        """The process has ended its part: should it report again, it begins anew."""
        said = self.reporters.get(process)
        if said is None:
            return
        if self.gone.issuperset(self.reporters.keys() - {process}):
            self.gone.add(process)
            self.close()  # it was the last: whoever comes goes on from here
        else:
            self._merge(process)

    def close(self) -> None:
        """End the generation: whoever reports from now on is counted on top."""
        total = self.progress()
        self.base = Told(steps=total.steps, tokens=total.tokens, samples=total.samples, done_ratio=total.done_ratio)
        self.merged = Told()
        self.reporters.clear()
        self.gone.clear()

    def progress(self) -> Progress:
        """All together."""
        everybody = [self.merged, *self.reporters.values()]
        furthest = max((said.steps for said in everybody if said.steps is not None), default=None)
        ratio = max((said.done_ratio for said in everybody if said.done_ratio is not None), default=None)
        return Progress(
            steps=_sum([self.base.steps, furthest]),
            tokens=_sum([self.base.tokens, *(said.tokens for said in everybody)]),
            samples=_sum([self.base.samples, *(said.samples for said in everybody)]),
            done_ratio=self.base.done_ratio if ratio is None else ratio,
        )

    def _merge_one(self) -> None:
        oldest = next((process for process in self.reporters if process in self.gone), None)
        if oldest is None:
            raise FailureError(f"{MOST_REPORTERS} processes report for this run already; let one of each node report")
        self._merge(oldest)

    def _merge(self, process: Process) -> None:
        said = self.reporters.pop(process)
        self.gone.discard(process)
        ratios = [ratio for ratio in (self.merged.done_ratio, said.done_ratio) if ratio is not None]
        self.merged = Told(
            steps=_most(self.merged.steps, said.steps),
            tokens=_sum([self.merged.tokens, said.tokens]),
            samples=_sum([self.merged.samples, said.samples]),
            done_ratio=max(ratios, default=None),
        )

    # -- for the ledger ----------------------------------------------------------------------------------------------

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "base": _row(self.base),
            "merged": _row(self.merged),
            "reporters": [[*process, *_row(said)] for process, said in self.reporters.items()],
            "gone": [list(process) for process in self.reporters if process in self.gone],
        }

    @classmethod
    def load(cls, document: dict[str, Any]) -> "Tally":
        """From JSON. Raises ValueError, TypeError or KeyError for what `dump` did not write."""
        return cls(
            base=_from_row(document["base"]),
            merged=_from_row(document["merged"]),
            reporters={Process(int(row[0]), int(row[1])): _from_row(row[2:]) for row in document["reporters"]},
            gone={Process(int(pid), int(ticks)) for pid, ticks in document["gone"]},
        )


def _row(said: Told) -> list[float | None]:
    return [said.steps, said.tokens, said.samples, said.done_ratio]


def _from_row(row: list[Any]) -> Told:
    steps, tokens, samples, done_ratio = row
    return Told(steps=steps, tokens=tokens, samples=samples, done_ratio=done_ratio)
