"""The source "processes", put together from what the settings and this machine allow."""

import logging
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from monitor import clock
from monitor.config import Settings
from monitor.core.model import Processes
from monitor.runs import discovery, sight, slurm
from monitor.runs.cgroupfs import CgroupFiles
from monitor.runs.container import OwnContainer
from monitor.runs.discovery import Discovery, Finder
from monitor.runs.evidence import Evidence
from monitor.runs.identify import Identifier
from monitor.runs.procfs import ProcessFiles
from monitor.runs.registry import Registry
from monitor.runs.scan import Scan

LOG = logging.getLogger("trainwatt")
NAME = Discovery.name
PHASE_S = discovery.PHASE_S
OWN_CONTAINER = (
    "this is a container with process numbers of its own, other than drivers tell: all work on its GPUs is one run, "
    "unless runs are registered; to tell runs apart, run it on the host, or with --pid=host (hostPID: true)"
)


def is_on_host(procfs: Path) -> bool:
    """Whether processes have the numbers here that drivers tell; taken so where it cannot be found out."""
    return sight.look(procfs, environment={}, configurations=()).on_host is not False


def source(
    settings: Settings,
    *,
    registry: Registry,
    looks: Callable[[], Mapping[str, Processes]],
    mark: str,
    boot_id: str,
    finds: bool,
) -> Discovery:
    """Nothing is opened yet. With `finds`, and unless the settings say no, it finds runs that nobody registered."""
    files = ProcessFiles(settings.procfs)
    scan: Finder | None = None
    on_host = is_on_host(settings.procfs)
    if not on_host:
        LOG.warning("%s", OWN_CONTAINER)
        if finds and settings.discover:
            scan = OwnContainer(settings.procfs, hostname=socket.gethostname(), ticks_per_s=files.ticks_per_s)
    elif finds and settings.discover:
        identifier = Identifier(settings.procfs, cluster=slurm.cluster_name(os.environ), boot_id=boot_id)
        scan = Scan(identifier, ticks_per_s=files.ticks_per_s)
    return Discovery(
        now=clock.now,
        registry=registry,
        files=files,
        cgroups=CgroupFiles(Path(settings.sysfs) / "fs" / "cgroup"),
        evidence=Evidence(settings.procfs),
        scan=scan,
        looks=looks,
        mark=mark,
        on_host=on_host,
    )
