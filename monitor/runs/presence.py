"""Who is on which device: the drivers' lists of processes, told to the book of runs."""

from collections.abc import Callable, Mapping

from monitor.core.model import Processes
from monitor.runs.found import Occupied

NEW_S = 15.0
"""A process that is not older has been on its GPU since its start: it began for that, and what it used still waits."""

Occupy = Callable[[Mapping[str, float], Mapping[str, Mapping[str, Occupied]]], None]
"""Moment of the look at each device, and by run which of them it has processes on."""


class Presence:
    """Remembers since when each process has been on a device, as far as looks tell. One thread owns it."""

    def __init__(self, occupy: Occupy) -> None:
        self._occupy = occupy
        self._seen: dict[str, float] = {}
        """Last look at each device that was passed on."""
        self._here: dict[str, dict[int, float]] = {}

    def tell(
        self, looks: Mapping[str, Processes], owners: Mapping[int, str], start_s: Callable[[int], float | None]
    ) -> None:
        """Pass on the looks that are new. `start_s`: when the process of a number began, None = it is not known."""
        fresh = {key: look for key, look in looks.items() if self._seen.get(key) != look.at.mono_s}
        if not fresh:
            return
        present: dict[str, dict[str, Occupied]] = {}
        for device_id, look in fresh.items():
            before_s, before = self._seen.get(device_id, 0.0), self._here.get(device_id, {})
            self._seen[device_id], self._here[device_id] = look.at.mono_s, (here := {})
            for process in look.processes:
                run_id = owners.get(process.pid)
                since_s = start_s(process.pid)
                if since_s is None:
                    continue
                if look.at.mono_s - since_s > NEW_S:
                    # One that the look before did not list came after it, however old it is.
                    since_s = max(since_s, before.get(process.pid, before_s))
                here[process.pid] = since_s
                if run_id is None:
                    continue
                known = present.setdefault(run_id, {}).get(device_id, Occupied(since_s))
                slices = known.slices | ({process.slice_id} if process.slice_id else set())
                present[run_id][device_id] = Occupied(min(known.since_mono_s, since_s), slices)
        self._occupy({key: look.at.mono_s for key, look in fresh.items()}, present)
