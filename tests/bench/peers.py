"""CodeCarbon, Zeus and our daemon side by side in real time: same driver, same load, same windows, same truth."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from monitor.runs.protocol import ask
from tests.bench import node, peer_child
from tests.bench.accuracy import MODES, PERIODS_S, Mode, Series, mean_and_max, nearest
from tests.bench.processes import child, hear, tell
from tests.bench.report import table
from tests.drivers import nvml
from tests.harness.daemon import Daemon, daemon

TITLE = (
    "peers: |error| in % of the truth, mean / max over one window per load period "
    f"({', '.join(f'{period:g}' for period in PERIODS_S)} s); GPU square {node.HIGH_W:g}/{node.LOW_W:g} W, real time.\n"
    "A peer's window lasts from the return of its begin to the call of its end, a run's from its start to its end. The "
    "other row of\ntrainwatt: joules between its readings nearest the edges, against the truth at their times"
)
WINDOWS_S = (2, 5, 20)
PACKAGES = ("codecarbon", "zeus", "numpy")
INSTALL_S = 600
PAUSE_S = 2.2
"""Between windows: the daemon's reading after the edge, and a second of load before the next."""
BY_READINGS, AS_A_RUN = "trainwatt, between readings", "trainwatt, a registered run"


@dataclass(slots=True)
class Bed:
    """One driver and everyone who meters it."""

    name: str
    driver: nvml.FakeDriver
    served: Daemon
    peers: dict[str, subprocess.Popen[str]]
    logs: dict[str, Path]
    versions: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    booked: Series = field(default_factory=list)
    errors: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    took_s: dict[str, list[float]] = field(default_factory=dict)
    """Of the peers: time spent in begin + end of a window."""
    leave: Event = field(default_factory=Event)
    """Set to end the metering early."""

    def ask(self, word: str) -> dict[str, dict[str, Any]]:
        """Say one word to every peer that still answers, and hear them all."""
        alive = {name: process for name, process in self.peers.items() if name not in self.failures}
        for process in alive.values():
            tell(process, word)
        answers: dict[str, dict[str, Any]] = {}
        for name, process in alive.items():
            try:
                answers[name] = json.loads(hear(process, self.logs[name]))
            except (RuntimeError, OSError) as error:
                self.failures[name] = str(error)
        return answers

    def look(self) -> None:
        """Note what our daemon has booked."""
        gpu = self.served.snapshot()["devices"][0]
        reading = (gpu["read_at"]["boottime_s"], sum(gpu["energy_j"].values()))
        if not self.booked or reading[0] > self.booked[-1][0]:
            self.booked.append(reading)

    def note(self, who: str, window_s: int, measured_j: float, begin_s: float, end_s: float) -> None:
        """Hold a measurement against the truth of its own window."""
        true_j = self.driver.true_energy_j(0, begin_s, end_s)
        self.errors.setdefault((who, window_s), []).append(measured_j / true_j - 1)


def measure(scratch: Path, *, markdown: bool) -> str:
    """Install the peers, run both drivers at once, and lay out who erred how much."""
    python, refused = _install(scratch / "peers")
    peers = {peer: [str(python), peer_child.__file__, peer] for peer in peer_child.PEERS if peer not in refused}
    library, leave = nvml.build(scratch), Event()
    with ExitStack() as stack:
        beds = [_bed(stack, scratch / mode.name.replace(" ", "-"), library, mode, peers) for mode in MODES]
        for bed in beds:
            bed.leave = leave
        with ThreadPoolExecutor(len(beds)) as pool:
            meterings = [pool.submit(_meter, bed) for bed in beds]
            try:
                for metering in meterings:
                    metering.result()
            finally:
                # On Ctrl-C the pool would else wait for every window there is.
                leave.set()
    return "\n".join([_errors_table(beds, markdown=markdown), *_remarks(beds, refused)])


def _install(directory: Path) -> tuple[Path, dict[str, str]]:
    """A virtual environment with the peers: its python, and why which of them is not in it."""
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True, stdout=subprocess.DEVNULL)
    python, refused = directory / "bin" / "python", {}
    for package in PACKAGES:
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
        if done.returncode != 0 and package in peer_child.PEERS:
            refused[package] = "does not install: " + (done.stderr.strip().splitlines() or ["no word"])[-1]
    return python, refused


def _bed(stack: ExitStack, place: Path, library: Path, mode: Mode, peers: dict[str, list[str]]) -> Bed:
    """One mode's driver with our daemon and the peers at work on it; `peers` holds their command lines."""
    (place / "sys").mkdir(parents=True)
    # CodeCarbon looks for a GPU by calling this program; a machine with a driver has it.
    (place / "nvidia-smi").write_text("#!/bin/sh\n")
    (place / "nvidia-smi").chmod(0o755)
    driver = nvml.FakeDriver(place / "nvml.conf", [mode.gpu])
    driver.wave(0, driver.now_s(), node.load(PERIODS_S[0]))
    if not mode.counter:
        driver.fault(node.ENERGY, node.NOT_SUPPORTED)
    env = driver.environment(library.parent) | {"PATH": f"{place}:{os.environ['PATH']}"}
    served = stack.enter_context(daemon("--sysfs", str(place / "sys"), log=place / "log", env=env))
    logs = {peer: place / f"{peer}.log" for peer in peers}
    processes = {
        peer: stack.enter_context(child(command, env=env, log=logs[peer], talks=True))
        for peer, command in peers.items()
    }
    bed = Bed(name=mode.name, driver=driver, served=served, peers=processes, logs=logs)
    for peer, process in processes.items():
        try:
            bed.versions[peer] = json.loads(hear(process, logs[peer]))["version"]
        except RuntimeError as error:
            bed.failures[peer] = str(error)
    return bed


def _meter(bed: Bed) -> None:
    for window_s in WINDOWS_S:
        for period_s in PERIODS_S:
            bed.driver.wave(0, bed.driver.now_s(), node.load(period_s))
            bed.ask("prepare")
            _watch(bed, PAUSE_S)
            _window(bed, window_s)


def _window(bed: Bed, window_s: int) -> None:
    run = f"run-{len(bed.errors)}-{len(bed.booked)}"
    began = bed.ask("begin")
    ask(bed.served.socket, {"op": "start", "id": run, "environment": {"CUDA_VISIBLE_DEVICES": "0"}})
    begin_s = bed.driver.now_s()
    _watch(bed, window_s)
    end_s = bed.driver.now_s()
    report = ask(bed.served.socket, {"op": "end", "run": run})["report"]
    for peer, ended in bed.ask("end").items():
        bed.note(peer, window_s, ended["energy_j"], began[peer]["at_s"], ended["at_s"])
        bed.took_s.setdefault(peer, []).append(began[peer]["took_s"] + ended["took_s"])
    _watch(bed, PAUSE_S)
    first, last = nearest(bed.booked, begin_s), nearest(bed.booked, end_s)
    bed.note(BY_READINGS, window_s, last[1] - first[1], first[0], last[0])
    start_s = report["start_unix_s"] - (time.time() - bed.driver.now_s())
    energy_j = sum(part["energy_j"] for part in report["energy_j"])
    bed.note(AS_A_RUN, window_s, energy_j, start_s, start_s + report["duration_s"])


def _watch(bed: Bed, seconds: float) -> None:
    """Let time pass, and look at our daemon a few times a second."""
    until_s = bed.driver.now_s() + seconds
    while (left_s := until_s - bed.driver.now_s()) > 0.0:
        if bed.leave.wait(min(0.25, left_s)):
            raise RuntimeError("stopped")
        if left_s > 0.25:  # not at the edge itself: that moment belongs to the peers
            bed.look()


def _errors_table(beds: list[Bed], *, markdown: bool) -> str:
    rows = [
        [
            f"{bed.name}: {' '.join([who, bed.versions.get(who, '')]).strip()}",
            *(mean_and_max(bed.errors[who, window_s]) for window_s in WINDOWS_S),
        ]
        for bed in beds
        for who in (*bed.peers, BY_READINGS, AS_A_RUN)
        if (who, WINDOWS_S[-1]) in bed.errors
    ]
    return table(["", *(f"{window_s} s" for window_s in WINDOWS_S)], rows, markdown=markdown)


def _remarks(beds: list[Bed], refused: dict[str, str]) -> Iterator[str]:
    for peer, why in refused.items():
        yield f"{peer}: {why}"
    for bed in beds:
        for peer, why in bed.failures.items():
            yield f"{bed.name}: {peer}: {why}"
        for peer, times_s in bed.took_s.items():
            yield f"{bed.name}: {peer} spends {1e3 * statistics.median(times_s):.1f} ms in begin + end (median)"
