"""Hours of a small cluster, for pictures: 8 GPUs a node, three runs, a live feed with forecasts and revisions.

python -m tests.dashboards.scene DIRECTORY     # serves it from a real Prometheus until interrupted
"""

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from pathlib import Path

from monitor.core.model import DeviceProcess, Instant, Processes, Progress, Rate, Reading, Readout, Run, RunBook
from monitor.core.ports import Now
from monitor.core.snapshot import Snapshot
from monitor.grid.feed import Account
from monitor.grid.neso import Neso
from monitor.sources.mock import IDLE_AND_PEAK_W, Mock
from tests.dashboards.history import Tape, played
from tests.drivers.feedserver import Answer, Asked, FeedServer
from tests.grid.day import Days, unix
from tests.harness.prometheus import Prometheus

HOURS = 5.0
STEP_S = 10.0
"""Of the loop and of the scrapes."""
SLOT_S = 1800.0
NODES = ("gpu-a01:9595", "gpu-a02:9595")
PROBED = "mock-gpu-6"
"""Of the first node; there the third run has it."""
LEAD_S = 300.0
"""Before it, nothing runs."""
WHOLE_S = 9 * 3600.0
"""So long each run means to last."""
PRICE = Rate(valid_from_s=-math.inf, valid_until_s=math.inf, amount=0.27)
POLICY = {
    "zone_found": "set",
    "currency": "EUR",
    "market_grams_per_kilowatthour": 31.0,
    "water_liters_per_kilowatthour": 0.4,
    "embodied_g_per_s": {"gpu": 150_000.0 / (4 * 365 * 86400.0)},
}
BUDGETS = {
    "mock-llm-pretrain": (("budget_co2e_kg", "9"), ("budget_cost", "20"), ("budget_energy_kwh", "60")),
    "mock-vision-finetune": (("budget_co2e_kg", "4"), ("budget_cost", "5"), ("budget_energy_kwh", "15")),
    "mock-reward-probe": (("budget_energy_kwh", "2"),),
}


class Grid:
    """NESO as it would have answered at each moment of such a day."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = time.time

    def answer(self, asked: Asked) -> Answer:
        """One request for a span of slots."""
        now_s = self.now()
        first, last = asked.path.split("/")[2:4]
        from_s = unix(first.replace("Z", "+00:00"))
        hours = {"fw24h": 24, "fw48h": 48, "pt24h": -24}.get(last)
        until_s = unix(last.replace("Z", "+00:00")) if hours is None else from_s + hours * 3600.0
        begin_s = math.floor(min(from_s, until_s) / SLOT_S) * SLOT_S
        slots = [begin_s + SLOT_S * number for number in range(math.ceil((max(from_s, until_s) - begin_s) / SLOT_S))]
        body = json.dumps({"data": [self._slot(slot_s, now_s) for slot_s in slots]}).encode()
        return Answer(body=body, headers={"Date": formatdate(now_s, usegmt=True)})

    @staticmethod
    def _slot(slot_s: float, now_s: float) -> dict[str, object]:
        hour = slot_s / 3600.0 % 24.0
        true_g = (
            150.0 + 60.0 * math.cos((hour - 19.0) / 24.0 * math.tau) - 35.0 * math.exp(-(((hour - 12.5) / 2.5) ** 2))
        )
        wobble_g = 9.0 * math.sin(slot_s / 7000.0)
        settled = now_s >= slot_s + 2 * 3600.0
        actual = None if slot_s + SLOT_S > now_s else round(true_g + wobble_g + (0 if settled else 6))
        stamps = (datetime.fromtimestamp(slot_s, UTC) + timedelta(seconds=add_s) for add_s in (0.0, SLOT_S))
        begin, end = (f"{stamp:%Y-%m-%dT%H:%MZ}" for stamp in stamps)
        intensity = {"forecast": round(true_g), "actual": actual, "index": "moderate"}
        return {"from": begin, "to": end, "intensity": intensity}


class Warm:
    """The mock's node, which was seen idle for a while before its runs begin, and whose GPUs tell who is on them."""

    name = Mock.name
    period_s = STEP_S

    def __init__(self, now: Now, seed: int) -> None:
        self._now = now
        self._began = now()
        self.mock = Mock("training", now=self._warm, interval_s=STEP_S, seed=seed)

    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""

    def read(self) -> Readout:
        """Idle watts first, then what the mock says on top of them."""
        readings = tuple(self._reading(reading) for reading in self.mock.read().readings)
        gpus = [reading for reading in readings if reading.telemetry is not None]
        return Readout(readings=readings, processes=tuple(_on(reading) for reading in gpus))

    def _warm(self) -> Instant:
        at, s = self._now(), LEAD_S
        return max(at, Instant(self._began.mono_s + s, self._began.wall_s + s), key=lambda one: one.mono_s)

    def _reading(self, reading: Reading) -> Reading:
        at = self._now()
        idle_w = IDLE_AND_PEAK_W[reading.device.component][0]
        since_s = at.mono_s - self._began.mono_s
        if since_s > LEAD_S:
            return reading._replace(energy_j=(reading.energy_j or 0.0) + idle_w * LEAD_S)
        telemetry = reading.telemetry and replace(reading.telemetry, utilization_ratio=0.0, memory_used_bytes=0)
        return reading._replace(at=at, energy_j=idle_w * since_s, power_w=idle_w, telemetry=telemetry)


def _on(reading: Reading) -> Processes:
    busy = reading.telemetry is not None and bool(reading.telemetry.utilization_ratio)
    return Processes(device_id=reading.device.id, at=reading.at, processes=(DeviceProcess(pid=4711),) if busy else ())


class Node(Days):
    """Two runs lie on all nodes; the first node gives one GPU of the second to a third run."""

    def __init__(self, directory: Path, number: int, begin_wall_s: float, feed: Neso) -> None:
        self._is_first = number == 0
        self.warm: Warm

        def source(now: Now) -> Warm:
            self.warm = Warm(now, number)
            return self.warm

        super().__init__(
            directory,
            zone="GB",
            feeds=[feed],
            begin_wall_s=begin_wall_s,
            runs=[],
            pue_ratio=1.2,
            source=source,
            interval_s=STEP_S,
            rates=lambda _from_s, _until_s: [PRICE],
            **POLICY,
        )

    def runs(self, at: Instant) -> RunBook:
        """Those that have begun."""
        if at.mono_s < self.warm.mock.runs(at).runs[0].start.mono_s:
            return RunBook()
        runs = [self._of_both(run, at) for run in self.warm.mock.runs(at).runs]
        return RunBook(runs=(*runs, self._probe(at)) if self._is_first else tuple(runs))

    def _of_both(self, run: Run, at: Instant) -> Run:
        done_ratio = (at.mono_s - run.start.mono_s) / WHOLE_S
        holds = run.holds - {PROBED} if self._is_first else run.holds
        progress = replace(run.progress, done_ratio=min(1.0, done_ratio))
        return replace(run, tags=BUDGETS[run.id], progress=progress, holds=holds)

    def _probe(self, at: Instant) -> Run:
        template = self.warm.mock.runs(at).runs[1]
        elapsed_s = at.mono_s - template.start.mono_s
        return replace(
            template,
            id="mock-reward-probe",
            name="reward-probe",
            user="ada",
            project="language",
            holds=frozenset({PROBED}),
            phases=(),
            progress=Progress(steps=int(elapsed_s), tokens=int(elapsed_s) * 2048, done_ratio=elapsed_s / WHOLE_S),
            tags=BUDGETS["mock-reward-probe"],
        )


def recorded(place: Path, *, hours: float = HOURS) -> Tape:
    """Everything that Prometheus would have scraped up to now."""
    tape, grid = Tape(), Grid()
    end_s = math.floor(time.time() / STEP_S) * STEP_S
    with FeedServer() as server:
        server.answer_with(grid.answer)
        for number, instance in enumerate(NODES):
            node = Node(place / str(number), number, end_s - hours * 3600.0, Neso(Account(base_url=server.base_url)))
            grid.now = node.wall_s

            def look(_snapshot: Snapshot, node: Node = node, instance: str = instance) -> None:
                tape.scrape(node.exposition(), instance, node.wall_s())

            node.until(end_s, each_turn=look)
            node.end()
    return tape


@contextmanager
def scene(place: Path) -> Iterator[Prometheus]:
    """A Prometheus that saw it all."""
    with played(recorded(place / "nodes"), place / "prometheus") as server:
        yield server


if __name__ == "__main__":
    with scene(Path(sys.argv[1])) as shown:
        print(shown.url, flush=True)  # noqa: T201  (a program speaks by print)
        threading.Event().wait()
