"""The grid's side of a daemon, put together: providers are asked, values kept, runs priced again."""

import random
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread

from monitor.core.model import Signal
from monitor.core.ports import Grid, History
from monitor.grid.feed import About, Reply, Request
from monitor.grid.job import Client as Asks
from monitor.grid.settler import Settler
from monitor.ledger.intensities import Intensities
from monitor.wiring import Wiring


class LateClient:
    """The client of all providers, made when the first is asked: `requests` takes 12 MiB, and many nodes ask nobody."""

    def __init__(self, wall_s: Callable[[], float]) -> None:
        self._wall_s = wall_s
        self._making = Lock()
        self._client: Asks | None = None

    def get(self, request: Request, about: About) -> Reply:
        """As client.Client.get. From any thread."""
        with self._making:
            if self._client is None:
                import requests

                from monitor.grid.client import Client

                self._client = Client(requests.Session(), self._wall_s)
        return self._client.get(request, about)


class Feeding:
    """Refresher and settler over one store, or only the yearly values where there is nobody to ask."""

    def __init__(
        self, wiring: Wiring, history: History, ledger_file: Path | None, *, wall_s: Callable[[], float] = time.time
    ) -> None:
        """Nothing is asked before `start`."""
        from monitor.grid.refresher import Refresher

        self._wiring = wiring
        self.store = Intensities(ledger_file)
        """What every provider ever said, also for relays and reports."""
        feeds = {feed.about.name: feed for plan in wiring.plans.values() for feed in plan}
        self.order = {
            zone: [feed.about.name for feed in plan if feed.about.signal is Signal.AVERAGE]
            for zone, plan in wiring.plans.items()
        }
        """Providers of each zone of the node, in order of preference."""
        self.settles_after_s = {name: feed.about.settles_after_s for name, feed in feeds.items()}
        self._settler = Settler(
            history,
            self.store,
            statics=wiring.statics,
            providers=self.order,
            settles_after_s=self.settles_after_s,
            wall_s=wall_s,
            publish=lambda figures: self._refresher.settled(figures),  # noqa: PLW0108  (there is no refresher yet)
        )
        self._refresher = Refresher(
            wiring.plans,
            statics=wiring.statics,
            store=self.store,
            client=LateClient(wall_s),
            wall_s=wall_s,
            random=random.Random(),  # noqa: S311  (spreads the load of many daemons, guards nothing)
            rates=wiring.rates,
            on_news=self._settler.news,
        )
        self.grid: Grid = self._refresher

    def fill(self) -> None:
        """Take over what was known before the start; the loop's first turn may price hours of downtime with it."""
        self._refresher.fill()

    def watch(self, zone: str) -> None:
        """Have a zone asked for, too, that another trainwatt wants. Raises UsageError: there is no such zone."""
        if zone not in self._wiring.plans:
            self._refresher.watch(zone, self._wiring.plan_of(zone))

    def start(self, stop: Event) -> list[Thread]:
        """Ask and price again in threads of their own until `stop` is set, which `wake` makes them see at once."""
        return [*self._refresher.start(stop), self._settler.start(stop)]

    def wake(self) -> None:
        """Look at once whether to end."""
        self._refresher.wake()
        self._settler.wake()

    def close(self) -> None:
        """Let go of the file: before the ledger does."""
        self.store.close()
