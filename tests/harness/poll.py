"""Waiting for something of the outside world, with an end."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(ask: Callable[[], T | None], *, what: str, within_s: float = 40.0, every_s: float = 0.05) -> T:
    """Ask until there is an answer. Raises TimeoutError that says what never came; OSError counts as no answer yet."""
    ends_at = time.monotonic() + within_s
    while True:
        try:
            answer = ask()
        except OSError:
            answer = None
        if answer:
            return answer
        if time.monotonic() > ends_at:
            raise TimeoutError(f"{what} did not come within {within_s:g} s")
        time.sleep(every_s)
