"""Daemons that are bad company: each a thread that does one thing wrong with whoever connects."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.job.recorder import ROOT, recording

OK = b'{"ok":true}\n'
LONG = b'{"ok":true,"report":"' + b"x" * 10_000_000 + b'"}\n'


def deaf(connection: socket.socket) -> None:
    """Take nothing, say nothing."""
    del connection


def dying(connection: socket.socket) -> None:
    """Take one request and go."""
    connection.recv(1000)
    connection.close()


def abrupt(connection: socket.socket) -> None:
    """Go at once."""
    connection.close()


def mute(connection: socket.socket) -> None:
    """Take everything, answer nothing."""
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


def saying(words: bytes, *, each: bool = False) -> Callable[[socket.socket], None]:
    """Say this to the first request, or to each."""

    def say(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                connection.sendall(words)
                if not each:
                    break
            mute(connection)

    return say


BAD = {
    "deaf": deaf,
    "dying": dying,
    "abrupt": abrupt,
    "mute": mute,
    "no JSON": saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "no UTF-8": saying(b"\xff\xfe\n"),
    "no object": saying(b"[]\n", each=True),
    "no ok": saying(b'{"ok":1}\n', each=True),
    "deep": saying(b'{"ok":' * 10_000 + b"\n"),
    "no line": saying(b"x" * 100_000, each=True),
    "many answers": saying(OK * 1000, each=True),
    "an odd id": saying(b'{"ok":true,"run":[1]}\n', each=True),
    "refusing": saying(b'{"ok":false,"error":"no"}\n', each=True),
    "refusing oddly": saying(b'{"ok":false,"error":{"a":[1]}}\n', each=True),
    "10 MB": saying(LONG, each=True),
    "empty": saying(b"\n", each=True),
}


@contextmanager
def company(path: Path, behave: Callable[[socket.socket], None]) -> Iterator[None]:
    """Listen on this path until left."""
    kept: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(16)

        def attend() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    kept.append(connection)
                    threading.Thread(target=_quietly, args=(behave, connection), daemon=True).start()

        thread = threading.Thread(target=attend, daemon=True)
        thread.start()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in kept:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()


def _quietly(behave: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        behave(connection)


@contextmanager
def stopped(path: Path) -> Iterator[None]:
    """A daemon that was well, and has been stopped by a signal."""
    with daemon_process(path) as process:
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)


@contextmanager
def daemon_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """One that is well, in a process of its own that may be killed."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


if __name__ == "__main__":
    with recording(Path(sys.argv[1])):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()
