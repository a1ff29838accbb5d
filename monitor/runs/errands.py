"""What a request may have to wait for: a disk, a directory of users, the devices. It holds up nobody else."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Any, TypeVar

from monitor.core.snapshot import Snapshot

T = TypeVar("T")
Edge = Callable[[], "Future[Snapshot]"]
"""Have the devices read, as for the start and the end of a run."""


async def read_devices(edge: Edge, within_s: float) -> Snapshot | None:
    """Have the devices read; what is known then, or None if that took too long to wait for."""
    reading = asyncio.wrap_future(edge())
    reading.add_done_callback(_look_away)
    # It is left to itself when the time is up, not cancelled: others wait for the same turn.
    done, _late = await asyncio.wait({reading}, timeout=within_s)
    return reading.result() if done and not reading.cancelled() and reading.exception() is None else None


async def in_thread(work: Callable[[], T]) -> T:
    """The result of work that may wait. In a thread of its own, which holds up neither others nor the daemon's end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def body() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  (it is the caller's)
            tell(_fail, error)
        else:
            tell(_succeed, result)

    def tell(how: Callable[[asyncio.Future[T], Any], None], what: object) -> None:
        with contextlib.suppress(RuntimeError):  # the server has ended meanwhile
            loop.call_soon_threadsafe(how, done, what)

    Thread(target=body, name="desk", daemon=True).start()
    return await done


def _succeed(done: "asyncio.Future[T]", result: T) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: "asyncio.Future[T]", error: Exception) -> None:
    if not done.done():
        done.set_exception(error)


def _look_away(reading: "asyncio.Future[Snapshot]") -> None:
    """An error that comes when nobody waits any more is nobody's."""
    if not reading.cancelled():
        reading.exception()
