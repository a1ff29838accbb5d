"""An ordinary user, who may run the tests' own Python wherever it is installed."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.harness import need

NOBODY = 65534
OPEN_UP = """
set -e
mkdir -p "$1/python"
mount --bind "$2" "$1/python"
mount -t tmpfs -o mode=755 none "$3"
mkdir -p "$2"
mount --bind "$1/python" "$2"
shift 3
exec "$@"
"""
"""In a mount namespace of its own: an installation below a directory that is closed to others is bound where it was."""


def as_an_ordinary_user(scratch: Path) -> list[str]:
    """The words before a command that make it an ordinary user's; none when we are one.

    Skips (fails in CI) where that cannot be done.
    """
    if os.geteuid() != 0:
        return []
    user = [need.program("setpriv"), f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    home = Path(sys.base_prefix)
    closed = [place for place in home.parents if not place.stat().st_mode & 0o001]
    words = user
    if closed:
        open_up = [need.program("sh"), "-c", OPEN_UP, "sh", str(scratch), str(home), str(closed[-1])]
        words = [need.program("unshare"), "--mount", *open_up, *user]
    if not _can_run(tuple(words)):
        need.missing("a Python that an ordinary user may run (root, and a mount namespace of its own)")
    return words


@cache
def _can_run(words: tuple[str, ...]) -> bool:
    again = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', '']).returncode)"
    return subprocess.run([*words, sys.executable, "-c", again], check=False, cwd="/").returncode == 0
