"""What the runs used of a node's CPUs and memory, as parts of the whole."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from monitor.core.idle import QUIET_RATIO, SHORTEST_S
from monitor.core.model import Run, RunUse, Usage
from monitor.core.waiting import Waiting


class Part(NamedTuple):
    """One run's part of what the node used."""

    run: Run
    ratio: float
    """Of what is beyond idle."""
    idle_ratio: float
    """Of the idle part."""


class _Member(NamedTuple):
    run: Run
    use: RunUse
    start_s: float
    """It was alive from here, within the window."""
    end_s: float
    held_ratio: float
    """Part of the node that it held."""


class Window:
    """One `Usage`, ready to be asked for any piece of it."""

    def __init__(self, usage: Usage, runs: Mapping[str, Run], gpu_ratios: Mapping[str, float]) -> None:
        """`gpu_ratios`: the part of the node's GPUs that each run holds; for its cores where none are told."""
        self.start_s = usage.start.mono_s
        self.end_s = usage.end.mono_s
        self.busy_ratio = usage.cpu_s / usage.cpu_capacity_s if usage.cpu_capacity_s > 0.0 else None
        """Of the node's CPUs."""
        self._usage = usage
        self._members = [
            _Member(run, use, max(self.start_s, run.since.mono_s), end_s, _held(use, gpu_ratios))
            for use in usage.runs
            if (run := runs.get(use.run_id)) is not None
            and (end_s := min(self.end_s, run.end.mono_s if run.end else self.end_s)) >= self.start_s
            and run.since.mono_s < self.end_s
        ]
        self.moments = frozenset(_moments(self._members))
        """Where a run or one of its phases began or ended."""

    def cpu(self, start_s: float, end_s: float) -> list[Part]:
        """Of the CPUs: by CPU time, which is taken as even over a run's life within the window."""
        present = self._present(start_s, end_s)
        span_s, length_s = end_s - start_s, self.end_s - self.start_s
        used_s = [one.use.cpu_s * _part(span_s, one.end_s - one.start_s) for one in present]
        busy_s = self._usage.cpu_s * _part(span_s, length_s)
        return _parts(present, used_s, busy_s)

    def memory(self, start_s: float, end_s: float) -> list[Part]:
        """Of the memory: by what is theirs of what is in use; idle or not makes no difference to it.

        Nobody's where nobody tells how much is in use: that is an error, and would make all of it the runs'.
        """
        if self._usage.memory_bytes <= 0:
            return []
        present = self._present(start_s, end_s)
        used = [float(one.use.memory_bytes) for one in present]
        total = max(float(self._usage.memory_bytes), sum(used))
        ratios = [amount / total for amount in used]
        return [Part(one.run, ratio, ratio) for one, ratio in zip(present, ratios, strict=True)]

    def quiet_power_w(self, spans: Iterable[Waiting]) -> float | None:
        """Mean power over the window where the node's CPUs were idle in it, by the spans that lie within."""
        if self.busy_ratio is None or self.busy_ratio > QUIET_RATIO:
            return None
        inner = [one for one in spans if one.start_mono_s >= self.start_s and one.end_mono_s <= self.end_s]
        seen_s = math.fsum(one.end_mono_s - one.start_mono_s for one in inner if one.is_seen and one.is_timed)
        if seen_s < SHORTEST_S or not all(one.is_seen and one.is_timed for one in inner):
            return None
        return math.fsum(one.energy_j for one in inner) / seen_s

    def _present(self, start_s: float, end_s: float) -> list[_Member]:
        return [one for one in self._members if one.start_s <= start_s and one.end_s >= end_s]


def _held(use: RunUse, gpu_ratios: Mapping[str, float]) -> float:
    return gpu_ratios.get(use.run_id, 0.0) if use.core_ratio is None else use.core_ratio


def _part(span_s: float, of_s: float) -> float:
    return min(1.0, span_s / of_s) if of_s > 0.0 else 0.0


def _parts(present: list[_Member], used: list[float], all_used: float) -> list[Part]:
    """Ratios that add up to at most 1: where counts of processes and of the node differ, the runs' are believed."""
    total = max(all_used, sum(used))
    held = max(1.0, sum(one.held_ratio for one in present))
    return [
        Part(one.run, amount / total if total > 0.0 else 0.0, one.held_ratio / held)
        for one, amount in zip(present, used, strict=True)
    ]


def _moments(members: Iterable[_Member]) -> Iterable[float]:
    for one in members:
        yield one.start_s
        yield one.end_s
        for phase in one.run.phases:
            yield phase.since_mono_s
