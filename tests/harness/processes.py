"""What runs on this machine."""

import contextlib
from pathlib import Path


def processes_with(*words: str) -> list[int]:
    """Processes whose command line contains all of the words."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
                if all(word in line for word in words):
                    found.append(int(entry.name))
    return found
