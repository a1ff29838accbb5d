"""Builds and steers the stand-in NVML driver of tests/native, and knows the truth behind its counters."""

import ctypes
import math
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from .waveform import Wave, Waveform

CONFIG_VARIABLE = "TRAINWATT_FAKE_NVML"
THROTTLED = ("power", "thermal", "sync_boost", "board_limit", "low_utilization", "reliability")
"""Reasons, in the order of their field ids, which begin with 74."""
_SONAME = "libnvidia-ml.so.1"
_NATIVE = Path(__file__).parent.parent / "native"
# Hidden visibility: only the NVML symbols leave the library. No fused multiply-add: see waveform.py.
_FLAGS = ["-shared", "-fPIC", "-O2", "-std=gnu11", "-fvisibility=hidden", "-ffp-contract=off"]
_WARNINGS = ["-Wall", "-Wextra", "-Werror"]


def build(directory: Path, *, process_abi_32: bool = False) -> Path:
    """Compile the stand-in into this directory, unless it is there and newer than its sources; return it.

    `process_abi_32` builds the variant of some 535-era drivers, whose process struct has 32 bytes; it needs a
    directory of its own. Raises RuntimeError when there is no gcc or the sources do not compile.
    """
    library = directory / _SONAME
    sources = sorted(_NATIVE.glob("*.[ch]"))
    if library.exists() and library.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return library
    gcc = shutil.which("gcc")
    if gcc is None:
        raise RuntimeError("the stand-in NVML driver is compiled from C: install gcc")
    directory.mkdir(parents=True, exist_ok=True)
    # Two processes may build at once: each compiles aside, and renames.
    fresh = directory / f"{_SONAME}.{os.getpid()}"
    variant = ["-DPROCESS_ABI_32"] if process_abi_32 else []
    target = [f"-Wl,-soname,{_SONAME}", "-o", str(fresh)]
    units = [str(source) for source in sources if source.suffix == ".c"]
    command = [gcc, *_FLAGS, *_WARNINGS, *variant, *target, *units, "-lm", "-pthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the stand-in NVML driver does not compile:\n{done.stderr}")
    fresh.replace(library)
    fresh.symlink_to(_SONAME)
    fresh.replace(directory / "libnvidia-ml.so")  # the name Rust programs open first
    return library


def preload(library: Path) -> ctypes.CDLL:
    """Load the stand-in into this process: whoever then opens libnvidia-ml.so.1 by name is given it."""
    return ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeGpu:
    """What a GPU is; each field is a key of its `gpu` line. "" = named after its index."""

    uuid: str = ""
    bus: str = ""
    name: str = "NVIDIA H100 80GB HBM3"
    arch: int = 9
    """NVML architecture number: 5 Volta, 6 Turing, 7 Ampere, 8 Ada, 9 Hopper, 10 Blackwell."""
    usage: Literal["average", "instant"] = "average"
    """Meaning of nvmlDeviceGetPowerUsage; `instant` (GA100) also takes away POWER_AVERAGE."""
    idle_w: float = 70.0
    limit_w: float = 700.0
    max_limit_w: float = 0.0
    """0 = as limit_w."""
    memory_total_bytes: int = 80 * 2**30
    memory_used_bytes: int = 0
    utilization: int = 0
    """Percent."""
    temperature_c: int = 40
    reasons: int = 0
    """Bits of the clock event reasons."""
    throttled: Mapping[str, float | None] = field(default_factory=dict)
    """Part of the time since the counters restarted, by one of THROTTLED; 0 unless given, None = not offered."""
    counter_period_s: float = 0.1
    """Refresh of the energy counter; 0 = continuous, as all periods."""
    counter_phase_s: float = 0.0
    counter_gain: float = 1.0
    """Joules counted per true joule."""
    base_mj: int = 0
    """What the counter had counted before time 0."""
    power_gain: float = 1.0
    """Watts shown per true watt."""
    average_window_s: float = 1.0
    average_period_s: float = 0.1
    instant_window_s: float = 0.025
    """0 = a point sample, for both windows."""
    instant_period_s: float = 0.1
    scopes: int = 1
    """Bits of the power scopes it has: 1 GPU, 2 module, 4 memory, 8 GPU base."""
    memory_share: float = 0.25
    """Power of the memory scope per watt of the GPU."""
    module_extra_w: float = 0.0
    """What the module draws beside the GPU."""
    mig: int = 0
    largest_profile: int = 7
    """Slices of the largest MIG profile; 0 = not told."""

    def config_line(self, gpu_index: int) -> str:
        """Return its line of the configuration."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        del values["throttled"]
        values |= {f"throttled_{reason}": -1.0 if part is None else part for reason, part in self.throttled.items()}
        values["uuid"] = self.uuid or default_uuid(gpu_index)
        values["bus"] = self.bus or f"00000000:{gpu_index + 1:02X}:00.0"
        return f"gpu {gpu_index} " + " ".join(f'{key} "{value}"' for key, value in values.items())


def default_uuid(gpu_index: int) -> str:
    """Return the UUID of a GPU that was given none."""
    return f"GPU-00000000-0000-4000-8000-{gpu_index:012d}"


@dataclass(frozen=True, slots=True)
class _Event:
    """Something that happens to an energy counter: a `restart`, `freeze` or `jump` line."""

    kind: Literal["restart", "freeze", "jump"]
    start_s: float
    end_s: float = 0.0
    jump_mj: float = 0.0

    def config_line(self, gpu_index: int) -> str:
        more = {"restart": "", "freeze": f" {self.end_s!r}", "jump": f" {self.jump_mj!r}"}[self.kind]
        return f"{self.kind} {gpu_index} {self.start_s!r}{more}"


_Window = tuple[float, float] | None


class FakeDriver:
    """The set-up of one stand-in driver. Every change is at once in the file that the library follows.

    Times are CLOCK_BOOTTIME seconds, or virtual ones while the clock is virtual. A window (begin, end) holds
    from its begin until before its end; None is always; math.inf may be the end.
    """

    def __init__(
        self, config_path: Path, gpus: Sequence[FakeGpu] = (FakeGpu(),), *, virtual_s: float | None = None
    ) -> None:
        """Write a first configuration; with `virtual_s` time stands still there until `set_virtual`."""
        self.config_path = config_path
        self.gpus = list(gpus)
        self._virtual_s = virtual_s
        self._pieces: dict[int, tuple[tuple[float, Wave], ...]] = {}
        self._events: dict[int, list[_Event]] = {}
        self._generation = 0
        self._versions = ("575.57.08", "13.575.57")
        self._forbidden: set[int] = set()
        self._rules: list[str] = []
        self._processes: dict[tuple[int, int], str] = {}
        self._slices: list[str] = []
        self._write()

    def environment(self, library_directory: Path) -> dict[str, str]:
        """Return the variables that make a child process find the library and this set-up."""
        paths = [str(library_directory), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        return {"LD_LIBRARY_PATH": ":".join(paths), CONFIG_VARIABLE: str(self.config_path)}

    # -- time ------------------------------------------------------------------------------------------------

    def now_s(self) -> float:
        """Return the present on the clock of the driver."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) if self._virtual_s is None else self._virtual_s

    def set_virtual(self, at_s: float) -> None:
        """Stop the clock at this moment."""
        self._virtual_s = at_s
        self._write()

    # -- GPUs and what they draw -----------------------------------------------------------------------------

    def uuid(self, gpu_index: int) -> str:
        """Return the UUID NVML shows for this GPU."""
        return self.gpus[gpu_index].uuid or default_uuid(gpu_index)

    def change_gpu(self, gpu_index: int, **changes: object) -> None:
        """Give a GPU other values of FakeGpu."""
        self.gpus[gpu_index] = replace(self.gpus[gpu_index], **changes)  # type: ignore[arg-type]
        self._write()

    def wave(self, gpu_index: int, start_s: float, wave: Wave) -> None:
        """Let a GPU draw this from start_s on; it drew something else until then."""
        self.drive(gpu_index, self.waveform(gpu_index).then(start_s, wave))

    def drive(self, gpu_index: int, waveform: Waveform) -> None:
        """Let a GPU draw this and nothing else, past included."""
        self._pieces[gpu_index] = waveform.pieces
        self.change_gpu(gpu_index, idle_w=waveform.idle_w)

    def waveform(self, gpu_index: int) -> Waveform:
        """Return what a GPU draws."""
        return Waveform(self.gpus[gpu_index].idle_w, self._pieces.get(gpu_index, ()))

    # -- what goes wrong -------------------------------------------------------------------------------------

    def restart(self, gpu_index: int, at_s: float) -> None:
        """Let the energy counter begin again at 0."""
        self._happen(gpu_index, _Event("restart", at_s))

    def freeze(self, gpu_index: int, begin_s: float, end_s: float) -> None:
        """Let the energy counter stand still for a while and then show what it would have."""
        self._happen(gpu_index, _Event("freeze", begin_s, end_s=end_s))

    def jump(self, gpu_index: int, at_s: float, by_mj: float) -> None:
        """Let the energy counter leap, forth or back."""
        self._happen(gpu_index, _Event("jump", at_s, jump_mj=by_mj))

    def reload(self, at_s: float) -> None:
        """Reload the driver: handles and initialisation are void at once, counters begin at 0 at `at_s`."""
        self._generation += 1
        for gpu_index in range(len(self.gpus)):
            self._events.setdefault(gpu_index, []).append(_Event("restart", at_s))
        self._write()

    def set_versions(self, driver: str, nvml: str) -> None:
        """Change what nvmlSystemGetDriverVersion and nvmlSystemGetNVMLVersion tell."""
        self._versions = (driver, nvml)
        self._write()

    def forbid(self, gpu_index: int) -> None:
        """Count a GPU, but let nobody have a handle to it."""
        self._forbidden.add(gpu_index)
        self._write()

    def fault(self, symbol: str, code: int, *, gpu_index: int | None = None, window_s: _Window = None) -> None:
        """Let a function, named as it is exported ("*": each), answer with this nvmlReturn_t."""
        self._rule("fault", symbol, code, gpu_index, window_s)

    def field_fault(self, field_id: int, code: int, *, gpu_index: int | None = None, window_s: _Window = None) -> None:
        """Let one field value carry this nvmlReturn, in a call that succeeds."""
        self._rule("field_fault", str(field_id), code, gpu_index, window_s)

    def latency(self, symbol: str, seconds: float, *, gpu_index: int | None = None, window_s: _Window = None) -> None:
        """Let a function take so long before it answers."""
        self._rule("latency", symbol, seconds, gpu_index, window_s)

    def heal(self) -> None:
        """Take back all faults, latencies and forbidden GPUs."""
        self._rules.clear()
        self._forbidden.clear()
        self._write()

    # -- processes and slices --------------------------------------------------------------------------------

    def process(
        self,
        gpu_index: int,
        pid: int,
        memory_bytes: int,
        sm_percent: int = 0,
        *,
        window_s: _Window = None,
        instances: tuple[int, int] | None = None,
    ) -> None:
        """Let a process hold a GPU, or the MIG slice with these (GPU, compute) instance ids."""
        begin_s, end_s = window_s or (-math.inf, math.inf)
        line = f"process {gpu_index} {pid} {memory_bytes} {sm_percent} {begin_s!r} {end_s!r}"
        if instances:
            line += f" {instances[0]} {instances[1]}"
        self._processes[gpu_index, pid] = line
        self._write()

    def end_process(self, gpu_index: int, pid: int) -> None:
        """Let a process be gone, from the samples of the past too (else give it a window)."""
        del self._processes[gpu_index, pid]
        self._write()

    def mig(  # noqa: PLR0917  (what the line has, in its order)
        self,
        gpu_index: int,
        slice_index: int,
        instances: tuple[int, int],
        uuid: str,
        memory_bytes: int,
        slices: tuple[int, int] = (0, 0),
    ) -> None:
        """Cut a slice off a GPU, which is in MIG mode from now on; `slices` of its GPU and compute instance."""
        words = (gpu_index, slice_index, *instances, uuid, memory_bytes, *slices)
        self._slices.append(f"mig {' '.join(map(str, words))}")
        self.change_gpu(gpu_index, mig=1)

    # -- the truth -------------------------------------------------------------------------------------------

    def true_energy_j(self, gpu_index: int, begin_s: float, end_s: float) -> float:
        """Joules a GPU really drew, whatever its counter shows."""
        return self.waveform(gpu_index).energy_j(begin_s, end_s)

    def counter_mj(self, gpu_index: int, at_s: float) -> int:
        """Millijoules its energy counter shows at a moment; the same arithmetic as tests/native/sensor.c."""
        gpu, events = self.gpus[gpu_index], self._events.get(gpu_index, [])
        shown_s = _shown_at_s(events, at_s)
        restarts_s = [e.start_s for e in events if e.kind == "restart" and 0 <= e.start_s <= shown_s]
        begin_s, base_mj = (max(restarts_s), 0) if restarts_s else (0.0, gpu.base_mj)
        refreshed_s = max(_last_tick_s(shown_s, gpu.counter_phase_s, gpu.counter_period_s), begin_s)
        energy_j = self.true_energy_j(gpu_index, begin_s, refreshed_s)
        counter_mj = base_mj + 1000 * gpu.counter_gain * energy_j
        for event in events:
            if event.kind == "jump" and begin_s <= event.start_s <= shown_s:
                counter_mj += event.jump_mj
        # A microjoule more, so that rounding does not take a millijoule off a round sum.
        return int(counter_mj + 1e-3) if counter_mj > 0 else 0

    # -- the file --------------------------------------------------------------------------------------------

    def _happen(self, gpu_index: int, event: _Event) -> None:
        self._events.setdefault(gpu_index, []).append(event)
        self._write()

    def _rule(self, verb: str, target: str, value: float, gpu_index: int | None, window_s: _Window) -> None:
        window = "" if window_s is None else f" {window_s[0]!r} {window_s[1]!r}"
        self._rules.append(f"{verb} {target} {'*' if gpu_index is None else gpu_index} {value!r}{window}")
        self._write()

    def _write(self) -> None:
        lines = [
            f"driver {self._versions[0]}",
            f"nvml {self._versions[1]}",
            "clock boottime" if self._virtual_s is None else f"clock virtual {self._virtual_s!r}",
            f"generation {self._generation}",
        ]
        for gpu_index, gpu in enumerate(self.gpus):
            lines.append(gpu.config_line(gpu_index))
            lines += self.waveform(gpu_index).config_lines(gpu_index)
            lines += [event.config_line(gpu_index) for event in self._events.get(gpu_index, [])]
        lines += [f"forbid {gpu_index}" for gpu_index in sorted(self._forbidden)]
        lines += [*self._rules, *self._processes.values(), *self._slices]
        # Renamed into place: the library never reads half a set-up.
        fresh = self.config_path.with_name(self.config_path.name + ".new")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.replace(self.config_path)


def _shown_at_s(events: Sequence[_Event], at_s: float) -> float:
    for event in events:
        if event.kind == "freeze" and event.start_s < at_s < event.end_s:
            return _shown_at_s(events, event.start_s)
    return at_s


def _last_tick_s(at_s: float, phase_s: float, period_s: float) -> float:
    if not period_s > 0:
        return at_s
    ticks = float(math.floor((at_s - phase_s) / period_s))
    # The division may round over a tick in either direction.
    if phase_s + (ticks + 1) * period_s <= at_s:
        ticks += 1
    if phase_s + ticks * period_s > at_s:
        ticks -= 1
    return phase_s + ticks * period_s
