"""What a scheduler says of its jobs over the control socket, from a prolog and an epilog: `job_start`, `job_end`.

A node waits for both, so that the devices are read but hardly waited for.
"""

import os
from collections.abc import Mapping
from typing import Any

from monitor.errors import FailureError
from monitor.runs import holdings, identity, requests
from monitor.runs.control import Answer, Handler
from monitor.runs.errands import Edge, in_thread, read_devices
from monitor.runs.identity import Origin
from monitor.runs.operations import is_administrator
from monitor.runs.protocol import Peer
from monitor.runs.registry import Registry
from monitor.runs.wish import Wish

START_WITHIN_S = 1.0
"""How long the start of a job waits for the devices to be read."""
END_WITHIN_S = 0.2
SCHEDULER = "slurm"


def job_operations(registry: Registry, *, edge: Edge) -> dict[str, Handler]:
    """`job_start` and `job_end`, for administrators."""

    async def start(peer: Peer, request: Mapping[str, Any]) -> Answer:
        _refuse_strangers(peer, "start")
        wanted = requests.parse(requests.JobStart, request)
        # Asks the ledger, and whoever knows the names of users.
        started = await in_thread(lambda: registry.begin_lasting(_wish(wanted), wanted.uid))
        late = await read_devices(edge, START_WITHIN_S) is None
        answer = {"run": started.run.id, "joined": started.joined, "altered": started.altered}
        return answer | {"late": True} if late else answer

    async def end(peer: Peer, request: Mapping[str, Any]) -> Answer:
        _refuse_strangers(peer, "end")
        wanted = requests.parse(requests.JobEnd, request)
        ended = registry.end_lasting(identity.slurm_key(wanted.job_id), wanted.uid)
        if ended:
            await read_devices(edge, END_WITHIN_S)
        return {"runs": list(ended)}

    return {"job_start": start, "job_end": end}


def _wish(wanted: requests.JobStart) -> Wish:
    environment = {
        "SLURM_JOB_ID": wanted.job_id,
        "SLURM_CLUSTER_NAME": wanted.cluster,
        "SLURM_ARRAY_JOB_ID": wanted.array_job_id,
        "SLURM_ARRAY_TASK_ID": wanted.array_task_id,
        "SLURM_JOB_GPUS": wanted.gpus,
    }
    tags = {"nodes": "" if wanted.nodes is None else str(wanted.nodes), "partition": wanted.partition}
    tags["restarts"] = str(wanted.restart or "")
    return Wish(
        id=identity.run_id(environment, Origin("", 0, 0)),
        name=wanted.name,
        project=wanted.account,
        launcher=SCHEDULER,
        job_id=identity.job_id(environment),
        tags=tuple((name, text) for name, text in tags.items() if text),
        # A job without GPUs was given none; on which it has processes all the same, others tell.
        hints=holdings.hints({"SLURM_JOB_GPUS": wanted.gpus}) if wanted.gpus.strip() else (),
        key=identity.slurm_key(wanted.job_id),
        raw_job_id=wanted.job_id,
        is_named=False,
    )


def _refuse_strangers(peer: Peer, what: str) -> None:
    if not is_administrator(peer):
        own = os.geteuid()
        who = "root" if own == 0 else f"root and the daemon's own user (uid {own})"
        raise FailureError(
            f"only {who}, outside containers, may {what} a scheduler's job; others start a run of theirs"
        )
