"""Every source of this machine, and the ways to the energy of its CPUs. Nothing is opened here."""

from monitor.config import Settings
from monitor.core.ports import Now, Source
from monitor.errors import UsageError


def sensors(settings: Settings, *, now: Now) -> list[Source]:
    """Every source of this machine, those of other distributions last. Raises UsageError."""
    if not settings.sysfs.is_dir():
        raise UsageError(f"--sysfs {settings.sysfs}: no such directory; it is /sys on every Linux")
    from monitor.sources import plugins
    from monitor.sources.alternatives import FirstThatWorks
    from monitor.sources.hwmon import Hwmon
    from monitor.sources.nvml.source import Nvml

    interval_s = settings.interval
    ways = cpu_sensors(settings, now=now)
    own: list[Source] = [
        Nvml(now=now, interval_s=interval_s, calibration=settings.calibration, sysfs=settings.sysfs),
        FirstThatWorks(ways, now=now),
        Hwmon(settings.sysfs, now=now, interval_s=interval_s, node=True),
    ]
    context = plugins.Context(now=now, interval_s=interval_s, sysfs=settings.sysfs, procfs=settings.procfs)
    return [*own, *plugins.load(context, taken=[source.name for source in (*own, *ways)])]


def cpu_sensors(settings: Settings, *, now: Now) -> list[Source]:
    """The ways to the energy of the CPUs, best first: never two at once, for they tell the same joules."""
    from monitor.sources.estimate import Estimate
    from monitor.sources.hwmon import Hwmon
    from monitor.sources.perf import Perf
    from monitor.sources.rapl import Rapl

    sysfs, procfs, interval_s = settings.sysfs, settings.procfs, settings.interval
    ways: list[Source] = [
        Rapl(sysfs, now=now, interval_s=interval_s, procfs=procfs),
        Perf(sysfs, now=now, interval_s=interval_s, procfs=procfs),
        Hwmon(sysfs, now=now, interval_s=interval_s, node=False),
    ]
    if settings.estimate_cpu_tdp is not None:
        ways.append(Estimate(procfs, tdp_w=settings.estimate_cpu_tdp, now=now, interval_s=interval_s))
    return ways
