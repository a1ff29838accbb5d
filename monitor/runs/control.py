"""The control socket: a Unix stream server in a thread of its own.

Open to every local user; who may do what is judged by the kernel's credentials of the peer. The thread sleeps while
nobody speaks, and no client can hold up another: lines, answers, connections and silences have an end.
"""

import asyncio
import contextlib
import difflib
import logging
import os
import socket
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from monitor.errors import FailureError, TrainwattError
from monitor.runs.protocol import (
    LONGEST_LINE_BYTES,
    Peer,
    decode,
    default_path,
    encode,
    peer_of,
)

LOG = logging.getLogger("trainwatt")

Answer = Mapping[str, Any]
Handler = Callable[[Peer, Mapping[str, Any]], Awaitable[Answer]]
"""Answers one request, in the server's thread: it never blocks, it awaits. A TrainwattError is the answer `error`."""

BACKLOG = 128
PROBE_S = 1.0
GRACE_S = 0.3
"""How long the thread may take to end."""
SHOWN_CHARACTERS = 40
"""As much of a client's own words is repeated to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client may cost."""

    line_bytes: int = LONGEST_LINE_BYTES
    connections: int = 64
    silent_s: float = 30.0
    """Within this a request must be complete."""
    drain_s: float = 5.0
    """Within this an answer must be taken."""
    pace_s: float = 0.01
    """So long after an answer the next request of the connection is read."""


# -- the socket ------------------------------------------------------------------------------------------------------


def bind(path: Path) -> socket.socket:
    """Listen on this path, in place of what a dead daemon left. Raises FailureError with the remedy."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        _make_directory(path.parent)
        _refuse_what_lives(path)
        # Made aside and renamed: whoever sees the path can connect.
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        listener.bind(str(fresh))
        try:
            fresh.chmod(0o666)
            listener.listen(BACKLOG)
            fresh.rename(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
    except OSError as error:
        listener.close()
        raise FailureError(
            f"cannot listen on {path}: {error.strerror or error}; choose another socket with --socket PATH"
        ) from error
    except FailureError:
        listener.close()
        raise
    return listener


def _make_directory(directory: Path) -> None:
    shared = directory.parent.stat().st_mode & stat.S_IWOTH
    try:
        directory.mkdir()
    except FileExistsError:
        if shared and not _is_ours(directory):
            raise FailureError(
                f"{directory} belongs to another user; remove it, or choose another socket with --socket PATH"
            ) from None
        return
    directory.chmod(0o700 if shared else 0o755)


def _is_ours(directory: Path) -> bool:
    found = directory.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _refuse_what_lives(path: Path) -> None:
    if not os.path.lexists(path):
        return
    if not path.is_socket():
        raise FailureError(f"{path} exists and is no socket; choose another with --socket PATH")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except (BlockingIOError, TimeoutError):
            pass  # alive, and busy
    raise FailureError(f"another daemon answers on {path}; choose another socket with --socket PATH")


# -- the server ------------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Client:
    """One connection."""

    peer: Peer
    writer: asyncio.StreamWriter
    heard_s: float


class _Server:
    """Answers requests from the table of operations until `stop` is called."""

    def __init__(self, listener: socket.socket, operations: Mapping[str, Handler], limits: Limits) -> None:
        self._listener = listener
        self._operations = operations
        self._limits = limits
        self._clients: set[_Client] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self.serving = Event()

    def run(self) -> None:
        """Serve until stopped: the body of the thread."""
        try:
            asyncio.run(self._serve())
        finally:
            self.serving.set()

    def stop(self) -> None:
        """End the server from another thread."""
        if self._loop is not None and self._stopped is not None:
            with contextlib.suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._stopped.set)

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_unix_server(
            self._attend, sock=self._listener, limit=self._limits.line_bytes, backlog=BACKLOG
        )
        self.serving.set()
        await self._stopped.wait()
        server.close()
        for client in self._clients:
            client.writer.transport.abort()

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Client(_peer(writer), writer, asyncio.get_running_loop().time())
        self._clients.add(client)
        if len(self._clients) > self._limits.connections:
            self._drop_one()
        try:
            writer.transport.set_write_buffer_limits(high=self._limits.line_bytes)
            await self._converse(client, reader)
            writer.close()
            async with asyncio.timeout(self._limits.drain_s):
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # gone, silent, not reading, or we are: whoever wants an answer asks again
        finally:
            writer.transport.abort()
            self._clients.discard(client)

    async def _converse(self, client: _Client, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                async with asyncio.timeout(self._limits.silent_s):
                    line = await reader.readuntil()
            except asyncio.LimitOverrunError:
                await self._send(client, _refusal(f"a request has at most {self._limits.line_bytes} bytes a line"))
                return
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    await self._send(client, await self._answer(client.peer, error.partial))
                return
            client.heard_s = asyncio.get_running_loop().time()
            await self._send(client, await self._answer(client.peer, line))
            # A job that reports in a tight loop slows down itself: neither the others nor the machine.
            await asyncio.sleep(self._limits.pace_s)

    async def _answer(self, peer: Peer, line: bytes) -> bytes:
        try:
            request = decode(line)
        except ValueError as error:
            return _refusal(f"cannot read the request: {error}; send one JSON object a line")
        try:
            handler = self._handler(request.get("op"))
            return encode({"ok": True, **await handler(peer, request)})
        except TrainwattError as error:
            return _refusal(str(error))
        except Exception as error:  # noqa: BLE001  (a defect in one operation is no reason to deny the others)
            LOG.warning("a request over the control socket failed: %s: %s", type(error).__name__, error)
            return _refusal(f"internal error: {type(error).__name__}: {error}; please report it")

    def _handler(self, name: object) -> Handler:
        handler = self._operations.get(name) if isinstance(name, str) else None
        if handler is None:
            near = difflib.get_close_matches(str(name)[:SHOWN_CHARACTERS], self._operations, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there is: {', '.join(sorted(self._operations))}"
            raise FailureError(f"unknown op {shown(name)}; {hint}")
        return handler

    async def _send(self, client: _Client, line: bytes) -> None:
        client.writer.write(line)
        async with asyncio.timeout(self._limits.drain_s):
            await client.writer.drain()

    def _drop_one(self) -> None:
        """Make room: of the user with the most connections, the one that has been silent longest."""
        held = Counter(client.peer.uid for client in self._clients)
        dropped = min(self._clients, key=lambda client: (-held[client.peer.uid], client.heard_s))
        dropped.writer.transport.abort()
        self._clients.discard(dropped)


def _peer(writer: asyncio.StreamWriter) -> Peer:
    return peer_of(writer.get_extra_info("socket"))


def _refusal(error: str) -> bytes:
    return encode({"ok": False, "error": " ".join(error.split())})


def shown(value: object) -> str:
    """A value of a request as an error message shows it: cut short, on one line."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


@contextlib.contextmanager
def serving(path: Path | None, operations: Mapping[str, Handler], *, limits: Limits | None = None) -> Iterator[None]:
    """Answer on `path` until left, in a thread; None = the default one, without which the daemon goes on.

    Raises FailureError for a path that was named.
    """
    at = default_path() if path is None else path
    try:
        listener = bind(at)
    except FailureError as error:
        if path is not None:
            raise
        LOG.warning("trainwatt's own commands cannot reach this daemon: %s", error)
        yield
        return
    made = at.stat()
    server = _Server(listener, operations, limits or Limits())
    thread = Thread(target=server.run, name="control", daemon=True)
    thread.start()
    server.serving.wait()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if os.path.samestat(at.stat(), made):
                at.unlink()
        server.stop()
        thread.join(GRACE_S)


# -- operations on sources -------------------------------------------------------------------------------------------
