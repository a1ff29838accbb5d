"""The doors to the commands `trainwatt-slurm-prolog` and `trainwatt-slurm-epilog`: slurmd waits for both.

As `trainwatt.main`, they take PYTHONPATH and the current directory off the path, so that nobody's files shadow ours.
What they do is in monitor/runs/announce.py, for `monitor.cli` would bring along more than they need.
"""

import os
import sys
from pathlib import Path


def prolog() -> int:
    """Tell the daemon of this node that a job begins. Always 0: a prolog that fails takes the node out of service."""
    return _tell("prolog")


def epilog() -> int:
    """Tell it that the job has ended. Always 0."""
    return _tell("epilog")


def _tell(what: str) -> int:
    try:
        theirs = {Path(entry).resolve() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
        theirs -= {Path(__file__).resolve().parent}
        sys.path[:] = [entry for entry in sys.path if entry and Path(entry).resolve() not in theirs]
        from monitor.runs import announce

        problem = announce.announce(what, os.environ, sys.argv[1:])
    except Exception as error:  # noqa: BLE001  (the job comes first)
        problem = f"{type(error).__name__}: {error}"
    if problem:
        sys.stderr.write(f"trainwatt-slurm-{what}: {' '.join(problem.split())}\n")
    return 0
