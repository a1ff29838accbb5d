"""The control socket as both ends know it: where it is, what a line may be, and the blocking client of the verbs.

    -> {"op": "release", "source": "nvml", "limit_s": 600}
    <- {"ok": true, "source": "nvml", "released_until_s": 1790000600.0}
    <- {"ok": false, "error": "one line that says what to do"}

One JSON object a line in UTF-8, answered in the order of the requests.
"""

import json
import os
import re
import socket
import struct
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.errors import FailureError

LONGEST_LINE_BYTES = 64 * 1024
LONGEST_ANSWER_BYTES = 16 * 1024 * 1024
PATIENCE_S = 15.0
"""How long a verb waits: longer than the daemon waits for a driver."""

DEFAULT_RELEASE_S = 600
LONGEST_RELEASE_S = 24 * 3600

SYSTEM_PATH = Path("/run/trainwatt/socket")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_UCRED = struct.Struct("iII")


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end, as the kernel saw it when it connected (SO_PEERCRED, unix(7))."""

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> Peer:
    """Who is at the other end of a connected Unix socket."""
    return Peer(*_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def user_path() -> Path:
    """Where an ordinary user's daemon listens: the runtime directory, else a directory of that user's own."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        return Path(runtime) / "trainwatt" / "socket"
    return Path(tempfile.gettempdir()) / f"trainwatt-{os.geteuid()}" / "socket"


def default_path() -> Path:
    """Where this user's daemon listens unless told otherwise."""
    return SYSTEM_PATH if os.geteuid() == 0 else user_path()


def decode(line: bytes) -> dict[str, Any]:
    """The object of one line. Raises ValueError that says what is wrong with it.

    What is not UTF-8, or half a character in an escape, becomes U+FFFD: a job of an odd name is a job all the same.
    """
    try:
        value = json.loads(line.decode("utf-8", "replace"), parse_constant=_no_constant)
        if _HALF.search(line):
            value = _whole(value)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(value, dict):
        raise ValueError("it is no object")  # noqa: TRY004  (a mistake of the peer, not a wrong type of ours)
    return value


def encode(message: Mapping[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _whole(value: Any) -> Any:
    """The value without lone surrogates, which no encoder takes."""
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def ask(path: Path | None, request: Mapping[str, Any], *, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
    """The daemon's answer, from `path` or from whichever default socket is alive: the system's, else the user's.

    Raises FailureError: no daemon, no answer in time, or what the daemon says is wrong.
    """
    gone_at_s = time.monotonic() + timeout_s
    connection, at = _connect([path] if path is not None else _default_paths(), timeout_s, trusted=path is not None)
    with connection:
        try:
            line = _exchange(connection, encode(request), gone_at_s)
        except TimeoutError as error:
            raise FailureError(f"the daemon on {at} has not answered for {timeout_s:g} s; look at its log") from error
        except OSError as error:
            raise FailureError(
                f"the daemon on {at} hung up ({error.strerror or error}): it is busy or has ended; try again"
            ) from error
    if not line.endswith(b"\n"):
        raise FailureError(f"the daemon on {at} hung up without an answer: it is busy or has ended; try again")
    try:
        answer = decode(line)
    except ValueError as error:
        raise FailureError(f"what answers on {at} is not trainwatt ({error}); name its socket with --socket") from error
    if answer.get("ok") is not True:
        raise FailureError(str(answer.get("error", f"the daemon on {at} refused without a reason")))
    return answer


def _default_paths() -> list[Path]:
    return [SYSTEM_PATH, user_path()]


def _connect(paths: list[Path], timeout_s: float, *, trusted: bool) -> tuple[socket.socket, Path]:
    denied = ""
    for path in paths:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            if isinstance(error, PermissionError):
                denied = f" (this user may not open {path})"
            continue
        # Somebody else may have made what stands in a directory for everybody.
        if trusted or peer_of(connection).uid in {0, os.geteuid()}:
            return connection, path
        connection.close()
    names = " or ".join(str(path) for path in paths)
    raise FailureError(f"no daemon answers on {names}{denied}; start one with trainwatt serve")


def _exchange(connection: socket.socket, line: bytes, gone_at_s: float) -> bytes:
    _wait_until(connection, gone_at_s)
    connection.sendall(line)
    answer = bytearray()
    while not answer.endswith(b"\n") and len(answer) < LONGEST_ANSWER_BYTES:
        _wait_until(connection, gone_at_s)
        more = connection.recv(LONGEST_LINE_BYTES)
        if not more:
            break
        answer += more
    return bytes(answer)


def _wait_until(connection: socket.socket, gone_at_s: float) -> None:
    left_s = gone_at_s - time.monotonic()
    if left_s <= 0.0:
        raise TimeoutError
    connection.settimeout(left_s)
