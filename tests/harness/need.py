"""What a test needs that is not Python: absent on a laptop is a skip with its name, absent in CI a failure."""

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def program(name: str) -> str:
    """Path of a program."""
    path = shutil.which(name)
    if path is None:
        missing(f"the program {name}")
    return path


def missing(what: str) -> NoReturn:
    """Skip here, fail in CI."""
    message = f"{what} is not on this machine; .ci/run installs it"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def chromium() -> str:
    """Path of the system's Chromium."""
    return os.environ.get("CHROMIUM") or program("chromium")


def trainwatt() -> str:
    """Path of the command under test: the one of this interpreter's environment."""
    import sys

    return str(Path(sys.executable).with_name("trainwatt"))
