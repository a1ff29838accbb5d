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
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
Background = Callable[[], Coroutine[Any, Any, None]]
"""Work for the server's loop that begins with it and is cancelled at its end."""

BACKLOG = 512
"""Of a Unix socket whose queue is full, who does not wait is told to try again: more than all ranks of a node."""
CHUNK_BYTES = 64 * 1024
ACCEPT_AGAIN_S = 0.1
PROBE_S = 1.0
GRACE_S = 0.3
"""How long the thread may take to end."""
SHOWN_CHARACTERS = 40
"""As much of a client's own words is repeated to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client may cost."""

    line_bytes: int = LONGEST_LINE_BYTES
    connections: int = 128
    """Eight ranks each of several users, and their commands."""
    silent_s: float = 30.0
    """Within this a request must be complete. A job that reports more seldom connects anew, which costs it nothing."""
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
    """One connection. Not a stream of asyncio's: that forgets what it has read once an answer finds no reader."""

    connection: socket.socket
    peer: Peer
    heard_s: float
    unread: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)
    is_deaf: bool = False
    """It has gone; what it said before is still to be heard."""
    sending: asyncio.Task[None] | None = None

    async def line(self, longest: int) -> bytes:
        """The next line, or what there is of it at the end: b"" = the end. Raises ValueError for one too long."""
        loop = asyncio.get_running_loop()
        while (end := self.unread.find(b"\n")) < 0 and len(self.unread) <= longest:
            try:
                more = await loop.sock_recv(self.connection, CHUNK_BYTES)
            except ConnectionResetError:  # it has gone without having read our answers
                more = b""
            if not more:
                end = len(self.unread) - 1
                break
            self.unread += more
        if not -1 <= end <= longest or (end < 0 and self.unread):
            raise ValueError("too long")
        line = bytes(self.unread[: end + 1])
        del self.unread[: end + 1]
        return line

    async def send(self, answer: bytes, *, most: int, within_s: float) -> None:
        """Send, or remember to; wait only where a client leaves more than `most` unread. Raises TimeoutError."""
        self.unsent += answer
        self._try_to_send()
        if self.unsent and (self.sending is None or self.sending.done()):
            self.sending = asyncio.create_task(self._send_rest())
        if len(self.unsent) > most:
            await self.flush(within_s)

    async def flush(self, within_s: float) -> None:
        """Wait until everything is sent. Raises TimeoutError."""
        if self.sending is not None:
            await asyncio.wait({self.sending}, timeout=within_s)
            if self.unsent:
                raise TimeoutError

    async def _send_rest(self) -> None:
        loop = asyncio.get_running_loop()
        while self.unsent:
            writable = asyncio.Event()
            loop.add_writer(self.connection, writable.set)
            try:
                await writable.wait()
            finally:
                loop.remove_writer(self.connection)
            self._try_to_send()

    def _try_to_send(self) -> None:
        try:
            while self.unsent and not self.is_deaf:
                del self.unsent[: self.connection.send(self.unsent)]
        except BlockingIOError:
            return
        except OSError:
            self.is_deaf = True
        self.unsent.clear()

    def hang_up(self) -> None:
        """End the talk; whoever reads or writes finds its end."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the connection back."""
        if self.sending is not None:
            self.sending.cancel()
            asyncio.get_running_loop().remove_writer(self.connection)
        self.connection.close()


class _Server:
    """Answers requests from the table of operations until `stop` is called."""

    def __init__(
        self,
        listener: socket.socket | None,
        operations: Mapping[str, Handler],
        limits: Limits,
        background: Sequence[Background],
    ) -> None:
        self._listener = listener
        self._operations = operations
        self._limits = limits
        self._background = background
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
        tasks = [asyncio.create_task(_outlive(work)) for work in self._background]
        if self._listener is not None:
            self._listener.setblocking(False)  # noqa: FBT003  (its only form)
            tasks.append(asyncio.create_task(self._accept(self._listener)))
        self.serving.set()
        await self._stopped.wait()
        for task in tasks:
            task.cancel()
        if self._listener is not None:
            self._listener.close()
        for client in self._clients:
            client.hang_up()

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        attending: set[asyncio.Task[None]] = set()
        while True:
            try:
                connection, _address = await loop.sock_accept(listener)
            except OSError:  # no descriptor is left, or the client has gone again
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            client = _Client(connection, peer_of(connection), loop.time())
            self._clients.add(client)
            if len(self._clients) > self._limits.connections:
                self._drop_one()
            task = asyncio.create_task(self._attend(client))
            attending.add(task)
            task.add_done_callback(attending.discard)

    async def _attend(self, client: _Client) -> None:
        try:
            await self._converse(client)
            await client.flush(self._limits.drain_s)
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # gone, silent, not reading, or we are: whoever wants an answer asks again
        finally:
            client.close()
            self._clients.discard(client)

    async def _converse(self, client: _Client) -> None:
        while True:
            try:
                async with asyncio.timeout(self._limits.silent_s):
                    line = await client.line(self._limits.line_bytes)
            except ValueError:
                await self._send(client, _refusal(f"a request has at most {self._limits.line_bytes} bytes a line"))
                return
            if not line:
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
        await client.send(line, most=self._limits.line_bytes, within_s=self._limits.drain_s)

    def _drop_one(self) -> None:
        """Make room: of the user with the most connections, the one that has been silent longest."""
        held = Counter(client.peer.uid for client in self._clients)
        dropped = min(self._clients, key=lambda client: (-held[client.peer.uid], client.heard_s))
        dropped.hang_up()
        self._clients.discard(dropped)


async def _outlive(work: Background) -> None:
    try:
        await work()
    except Exception as error:  # noqa: BLE001  (a defect in it is no reason not to answer)
        LOG.warning("the control thread goes on without a part: %s: %s", type(error).__name__, error)


def _refusal(error: str) -> bytes:
    return encode({"ok": False, "error": " ".join(error.split())})


def shown(value: object) -> str:
    """A value of a request as an error message shows it: cut short, on one line."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


@contextlib.contextmanager
def serving(
    path: Path | None,
    operations: Mapping[str, Handler],
    *,
    limits: Limits | None = None,
    background: Sequence[Background] = (),
) -> Iterator[None]:
    """Answer on `path` until left, in a thread; None = the default one, without which the daemon goes on.

    `background` runs in the same thread, also where there is no socket. Raises FailureError for a path that was named.
    """
    at = default_path() if path is None else path
    listener: socket.socket | None = None
    try:
        listener = bind(at)
    except FailureError as error:
        if path is not None:
            raise
        LOG.warning("trainwatt's own commands cannot reach this daemon: %s", error)
        if not background:
            yield
            return
    made = None if listener is None else at.stat()
    server = _Server(listener, operations, limits or Limits(), background)
    thread = Thread(target=server.run, name="control", daemon=True)
    thread.start()
    server.serving.wait()
    try:
        yield
    finally:
        if made is not None:
            with contextlib.suppress(OSError):
                if os.path.samestat(at.stat(), made):
                    at.unlink()
        server.stop()
        thread.join(GRACE_S)
