"""How a measurement is shown: aligned plain text, or a Markdown table. No measuring here."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

HEADINGS = ("what", "measured", "bare", "ratio", "budget", "")


class Verdict(StrEnum):
    """Whether a budget is kept."""

    PASS = "PASS"  # noqa: S105  (a verdict, not a word to enter with)
    OVER = "OVER"
    NONE = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One measured value, what it is held against, and what the least that could do the same work takes."""

    what: str
    value: float
    unit: str
    bare: float | None = None
    most: float | None = None
    """The highest value within the budget, in the same unit; None = DESIGN.md sets none."""
    budget: str = ""
    digits: int = 2

    @property
    def verdict(self) -> Verdict:
        """Of the value as measured, before it is rounded for the eye."""
        if self.most is None:
            return Verdict.NONE
        return Verdict.PASS if self.value <= self.most else Verdict.OVER

    def cells(self) -> tuple[str, ...]:
        """What stands under HEADINGS."""
        ratio = "" if not self.bare else f"{self.value / self.bare:.1f}x"
        bare = "" if self.bare is None else self._shown(self.bare)
        return self.what, self._shown(self.value), bare, ratio, self.budget, self.verdict

    def _shown(self, value: float) -> str:
        return f"{value:.{self.digits}f} {self.unit}".rstrip()


def lines_table(lines: Sequence[Line], *, markdown: bool) -> str:
    """The measurements of one bench."""
    return table(HEADINGS, [line.cells() for line in lines], markdown=markdown)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> str:
    """Text in columns; the first to the left, the others to the right."""
    if markdown:
        rule = ["---", *["---:"] * (len(headings) - 1)]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, rule, *rows))
    every = [headings, *rows]
    widths = [max(len(cells[column]) for cells in every) for column in range(len(headings))]
    return "\n".join(_aligned(cells, widths) for cells in every)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        text.rjust(width) if column else text.ljust(width)
        for column, (text, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join([first, *others]).rstrip()


def machine() -> str:
    """Cores, Python, kernel and load: what the numbers were measured on."""
    cores = len(os.sched_getaffinity(0))
    return (
        f"machine: {cores} cores {_cpu_model()}, Python {platform.python_version()}, Linux {platform.release()}, "
        f"load average {os.getloadavg()[0]:.2f} at the start"
    )


def _cpu_model() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123  (proc(5), not a path of ours)
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return models[0] if models else platform.machine()
