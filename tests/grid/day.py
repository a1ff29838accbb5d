"""A node in virtual time that is priced by a real feed over HTTP, keeps a real ledger, and settles.

Nothing sleeps: before each turn of the loop whatever of the refresher and the settler is due by then is done.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import requests

from exporters.prometheus import Exposition
from monitor.core.model import Component, Device, GridState, Instant, Intensity, Rate, Reading, Readout, Run
from monitor.core.ports import Now, Source
from monitor.core.snapshot import Policy, Snapshot
from monitor.grid import static
from monitor.grid.client import Client
from monitor.grid.feed import Feed
from monitor.grid.refresher import Refresher, no_rates
from monitor.grid.settler import Settler
from monitor.ledger.intensities import Intensities
from monitor.ledger.ledger import Ledger, open_ledger
from tests.harness.rig import UNIX_AT_BOOT_S, Rig

TURN_S = 100.0
POWER_W = 3600.0
"""A thousandth of a kilowatt-hour each second."""
GPU = Device(id="GPU-day", component=Component.GPU, source="day", max_power_w=5000.0, counter_epoch="1")


class Load:
    """One GPU at a steady power, by its counter."""

    name = "day"
    period_s = TURN_S

    def __init__(self, now: Now, power_w: float = POWER_W) -> None:
        self._now = now
        self._power_w = power_w

    def open(self) -> None:
        """Nothing to open."""

    def read(self) -> Readout:
        """The counter."""
        at = self._now()
        return Readout(readings=(Reading(device=GPU, at=at, energy_j=self._power_w * at.mono_s),))

    def close(self) -> None:
        """Nothing to close."""


class Days(Rig):
    """One daemon's life in virtual time; another one over the same directory is the next daemon."""

    def __init__(
        self,
        directory: Path,
        *,
        zone: str,
        feeds: Sequence[Feed],
        begin_wall_s: float,
        runs: Sequence[Run],
        pue_ratio: float = 1.0,
        source: Callable[[Now], Source] = Load,
        interval_s: float = TURN_S,
        rates: Callable[[float, float], Sequence[Rate]] = no_rates,
        **policy: Any,
    ) -> None:
        self.at_s = begin_wall_s - UNIX_AT_BOOT_S
        self._feeding: list[Callable[[float], float]] = []
        self._due: list[float] = []
        self._settle_every_s = 300.0
        of_node = Policy(zone=zone, pue_ratio=pue_ratio, stale_after_s=3 * interval_s, **policy)
        self.ledger: Ledger = open_ledger(
            directory, now=self.now, policy=of_node, boot_id="boot-1", retention_days=None
        )
        self.store = Intensities(self.ledger.path)
        self._statics = {zone: static.intensity(zone)}
        self._settler = Settler(
            self.ledger.history,
            self.store,
            statics=self._statics,
            providers={zone: [feed.about.name for feed in feeds]},
            settles_after_s={feed.about.name: feed.about.settles_after_s for feed in feeds},
            wall_s=self.wall_s,
            publish=lambda figures: self.refresher.settled(figures),  # noqa: PLW0108  (there is no refresher yet)
        )
        self.session = requests.Session()
        self.refresher = Refresher(
            {zone: feeds},
            statics=self._statics,
            store=self.store,
            client=Client(self.session, self.wall_s),
            wall_s=self.wall_s,
            random=Random(7),
            on_news=self._settler.news,
            rates=rates,
        )
        super().__init__(
            runs=runs,
            begin_s=self.at_s,
            interval_s=interval_s,
            first=self.ledger.first,
            sources=[source(self.now)],
            keeper=self.ledger,
        )
        self.ledger_shows = Exposition(self.loop)
        for feed in feeds:
            self._every(partial(self.refresher.tick, feed.about.name))
        self._every(self._settle)

    def wall_s(self) -> float:
        """The virtual present as Unix time."""
        return UNIX_AT_BOOT_S + self.at_s

    def intensities(self, at: Instant) -> tuple[Intensity, ...]:
        """Of the real refresher."""
        return self.refresher.intensities(at)

    def state(self) -> GridState:
        """Of the real refresher."""
        return self.refresher.state()

    def until(self, wall_s: float, *, each_turn: Callable[[Snapshot], None] | None = None) -> Snapshot:
        """Let time pass up to a moment; each turn is committed, and shown then."""

        def look(snapshot: Snapshot) -> None:
            self._keep(snapshot)
            if each_turn is not None:
                each_turn(snapshot)

        self.go(wall_s - self.wall_s(), each_turn=look)
        return self.loop.head

    def edge(self) -> Snapshot:
        """As in a rig, and committed."""
        snapshot = super().edge()
        self._keep(snapshot)
        return snapshot

    def _keep(self, snapshot: Snapshot) -> None:
        self.ledger.commit()
        self.loop.publish(snapshot)

    def wait_until(self, wall_s: float) -> None:
        """Let time pass in which nothing is metered: feeds are asked and, now and then, runs are settled."""
        self._settle_every_s = 7200.0
        self._set(wall_s - UNIX_AT_BOOT_S)

    def exposition(self) -> str:
        """What a scrape gets now."""
        return self.ledger_shows.render("text/plain")[0].decode()

    def end(self) -> None:
        """As a daemon that is told to stop."""
        self.ledger.close()
        self.session.close()

    def _settle(self) -> float:
        self._settler.tick()
        return self.wall_s() + self._settle_every_s

    def _every(self, tick: Callable[[], float]) -> None:
        self._feeding.append(lambda _at_s: tick())
        self._due.append(self.wall_s())

    def _set(self, at_s: float) -> None:
        while self._due and min(self._due) <= UNIX_AT_BOOT_S + at_s:
            number = self._due.index(min(self._due))
            self.at_s = max(self.at_s, self._due[number] - UNIX_AT_BOOT_S)
            # A tick that finds nothing to do may be due at once again: time goes on all the same.
            self._due[number] = max(self._feeding[number](self.at_s), self.wall_s() + 0.1)
        super()._set(at_s)


def unix(text: str) -> float:
    """Unix time of an ISO 8601 moment."""
    return datetime.fromisoformat(text).timestamp()
