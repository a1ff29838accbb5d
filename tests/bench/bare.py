"""The bare loop: the daemon's driver calls at the daemon's rate, and nothing else. Run as a file, with no import of us.

bare.py SYSFS counter: each second the energy and the average power of each GPU.
bare.py SYSFS power: ten times a second the average power of each GPU, whose counter is not supported.
Both: each second four energy_uj files, every 5 s limit, utilisation, memory, temperature and processes of each GPU.
"""

import contextlib
import sys
import time
from typing import Any

import pynvml

ZONES = ("intel-rapl:0", "intel-rapl:0/intel-rapl:0:1", "intel-rapl:1", "intel-rapl:1/intel-rapl:1:1")
TELEMETRY_EVERY_S = 5


def main(sysfs: str, mode: str) -> None:
    """Loop until killed, at fixed deadlines."""
    pynvml.nvmlInit()
    gpus = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    files = [f"{sysfs}/class/powercap/{zone}/energy_uj" for zone in ZONES]
    hertz = 10 if mode == "power" else 1
    tick = int(time.clock_gettime(time.CLOCK_BOOTTIME) * hertz)
    while True:
        if mode == "counter":
            for gpu in gpus:
                pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
        for gpu in gpus:
            pynvml.nvmlDeviceGetFieldValues(gpu, [pynvml.NVML_FI_DEV_POWER_AVERAGE])
        if tick % hertz == 0:
            for file in files:
                read(file)
        if tick % (TELEMETRY_EVERY_S * hertz) == 0:
            for gpu in gpus:
                telemetry(gpu)
        tick += 1
        time.sleep(max(0.0, tick / hertz - time.clock_gettime(time.CLOCK_BOOTTIME)))


def read(path: str) -> int:
    """One counter of the powercap tree, in microjoules."""
    with open(path, encoding="ascii") as file:  # noqa: PTH123  (bare: without pathlib's share of the cost)
        return int(file.read())


def telemetry(gpu: Any) -> None:
    """What the daemon asks now and then."""
    pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu)
    pynvml.nvmlDeviceGetUtilizationRates(gpu)
    pynvml.nvmlDeviceGetMemoryInfo(gpu, version=pynvml.nvmlMemory_v2)
    pynvml.nvmlDeviceGetTemperatureV(gpu, pynvml.NVML_TEMPERATURE_GPU)
    pynvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu)
    since_us = int(1e6 * (time.time() - TELEMETRY_EVERY_S))
    with contextlib.suppress(pynvml.NVMLError):  # it has no sample since then
        pynvml.nvmlDeviceGetProcessUtilization(gpu, since_us)


if __name__ == "__main__":
    main(*sys.argv[1:])
