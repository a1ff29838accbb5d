"""`/api/v1/grid/intensity`: what the store knows of a grid zone, for other trainwatts on the site.

A question never leads to a request to a provider by itself. A zone that nobody asked for before is told to the
refresher, which begins to watch it: 500 machines that ask cause as many requests upstream as one.
"""

import math
import re
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from monitor.core.model import Quality
from monitor.core.ports import IntensityStore
from monitor.core.wire import intensity_document
from monitor.errors import UsageError

LONGEST_SPAN_S = 8 * 86_400.0
MOST_ZONES = 50
"""Zones that others may have watched: each costs requests upstream."""
ZONE = re.compile("[A-Z0-9]{2,8}(-[A-Z0-9]{1,8}){0,3}")
YES, NO = frozenset({"1", "true", "yes"}), frozenset({"0", "false", "no", ""})


class QuestionError(Exception):
    """The question is wrong: one line, and the HTTP status."""

    def __init__(self, line: str, status: int) -> None:
        super().__init__(line)
        self.status = status


class Relay:
    """Answers from the store. `wanted` hands a new zone on to the refresher; UsageError = there is no such zone."""

    def __init__(self, store: IntensityStore, wanted: Callable[[str], None] | None = None) -> None:
        self._store = store
        self._wanted = wanted
        self._asked: set[str] = set()
        self._lock = Lock()

    def answer(self, query: Mapping[str, str]) -> dict[str, Any]:
        """The document of `monitor.core.wire`. From any thread, slow. Raises QuestionError."""
        zone = query.get("zone", "").upper()
        if not ZONE.fullmatch(zone):
            raise QuestionError("zone: expected a grid zone such as DE", 400)
        start_s, end_s = _moment(query, "start"), _moment(query, "end")
        if not 0.0 < end_s - start_s <= LONGEST_SPAN_S:
            raise QuestionError("end: expected a moment after start, at most 8 days later", 400)
        forecast = query.get("forecast", "").lower()
        if forecast not in YES | NO:
            raise QuestionError("forecast: expected 1 or 0", 400)
        self._register(zone)
        known = self._store.known(zone, start_s, end_s)
        with_forecasts = forecast in YES
        return intensity_document(
            [slot for slot in known if with_forecasts or slot.quality is not Quality.FORECAST], zone=zone
        )

    def _register(self, zone: str) -> None:
        if self._wanted is None:
            return
        with self._lock:
            if zone in self._asked:
                return
            if len(self._asked) >= MOST_ZONES:
                raise QuestionError(f"this trainwatt watches {MOST_ZONES} zones for others, and no more", 503)
            try:
                self._wanted(zone)
            except UsageError as error:
                raise QuestionError(str(error), 404) from error
            self._asked.add(zone)


def _moment(query: Mapping[str, str], name: str) -> float:
    """Unix time."""
    try:
        moment_s = float(query.get(name, ""))
    except ValueError:
        moment_s = math.nan
    if not 0.0 <= moment_s < 2.0**40:
        raise QuestionError(f"{name}: expected Unix time in seconds", 400)
    return moment_s
