"""Where a value stands in a JSON document: `data.0.value`, `result[0].intensity`, `rows[*].grams`, `["a.b"].c`.

A number is a place in a list, [-1] the last; `[*]` is every entry of a list; a leading `$` may be left out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

EVERY = "*"
_STEP = re.compile(
    r"""\.?(?: \[ \s* (?: (?P<place>-?\d+) | (?P<every>\*) | "(?P<quoted>[^"]*)" | '(?P<single>[^']*)' ) \s* \]
      | (?P<name>[^.\[\]\s"']+) )""",
    re.VERBOSE,
)


class Missing(LookupError):
    """The document has nothing at the path. `str(error)` says how far it leads."""


@dataclass(frozen=True, slots=True)
class Path:
    """A path that was understood."""

    text: str
    steps: tuple[str | int, ...]
    """Names, places, and EVERY for each entry."""

    @property
    def is_many(self) -> bool:
        """Whether it names a list of values rather than one."""
        return EVERY in self.steps

    @property
    def list_steps(self) -> tuple[str | int, ...] | None:
        """The way to the list; None where there is none."""
        return self.steps[: self.steps.index(EVERY)] if self.is_many else None

    def one(self, document: Any) -> Any:
        """What stands there. Raises Missing."""
        return self._follow(document, self.steps)

    def rows(self, document: Any) -> list[Any]:
        """The list at the first `[*]`. Raises Missing."""
        steps = self.list_steps or ()
        found = self._follow(document, steps)
        if not isinstance(found, list):
            raise Missing(f"{self.text!r}: no list at {_shown(steps)}")
        return found

    def in_row(self, row: Any) -> Any:
        """What stands in one entry of that list. Raises Missing."""
        return self._follow(row, self.steps[self.steps.index(EVERY) + 1 :])

    def _follow(self, found: Any, steps: Sequence[str | int]) -> Any:
        for number, step in enumerate(steps, start=1):
            try:
                found = _step(found, step)
            except (KeyError, IndexError, TypeError, ValueError):
                raise Missing(f"{self.text!r}: nothing at {_shown(steps[:number])}") from None
        return found


def path_of(text: str) -> Path:
    """The path that a text means. Raises ValueError where it means none, or more than one list."""
    rest = text.strip().removeprefix("$")
    steps: list[str | int] = []
    at = 0
    while at < len(rest):
        match = _STEP.match(rest, at)
        if match is None or (at and rest[at] not in ".["):
            raise ValueError(f"no path from {rest[at:]!r} on")
        at = match.end()
        if match["place"] is not None:
            steps.append(int(match["place"]))
        elif match["every"] is not None or match["name"] == EVERY:
            steps.append(EVERY)
        else:
            steps.append(next(word for word in (match["quoted"], match["single"], match["name"]) if word is not None))
    if steps.count(EVERY) > 1:
        raise ValueError("at most one [*]")
    return Path(text, tuple(steps))


def _step(found: Any, step: str | int) -> Any:
    if isinstance(found, list):
        return found[int(step)]
    if isinstance(found, dict):
        return found[str(step)]
    raise KeyError(step)


def _shown(steps: Sequence[str | int]) -> str:
    return ".".join(str(step) for step in steps) or "its root"
