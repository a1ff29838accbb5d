"""What a training job may import, and the door to the `trainwatt` command. Standard library only, Python 3.8 syntax."""

import os
import sys


def main():
    # type: () -> None
    """Run the `trainwatt` command.

    The folders of the tool have generic names (`monitor`), and so have users' own files: PYTHONPATH and the current
    directory are taken off the path first, so that theirs never shadow ours. The environment itself stays as it is,
    for the sake of the child of `trainwatt run`.
    """
    theirs = {os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
    home = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if entry and (entry == home or os.path.abspath(entry) not in theirs)]
    from monitor.cli import main as run

    run()
