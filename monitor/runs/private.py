"""The daemon of a run where nobody installed one: found, started, ended, and nothing of it stays behind.

It lives in a directory of the user's own, named after the run, so that the ranks of a run share it:

    RUNTIME/run-HASH/   socket, ledger, log, lock

Whoever starts it, and whoever removes the directory, holds the lock. What a killed daemon has left is taken over by the
next one: the ledger in it and the counters of the hardware tell what was used meanwhile.
"""

import contextlib
import fcntl
import hashlib
import os
import select
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import monitor
from monitor.errors import FailureError
from monitor.runs.protocol import SYSTEM_PATH, ask, peer_of, user_path

LONGEST_PATH_BYTES = 107
"""Of a Unix socket (unix(7))."""
CONNECT_S = 1.0
LOOK_EVERY_S = 0.01
STOP_S = 3.0
"""A daemon that was told to end has ended after this."""
LOCK, LOG, SOCKET = "lock", "log", "socket"
PROGRAM = (sys.executable, "-P", "-m", "monitor.cli.private")
"""Neither the current directory nor PYTHONPATH is on its path: a user's own `monitor.py` must not shadow ours."""
NOT_ITS_OWN = ("TRAINWATT_RUN", "TRAINWATT_SOCKET", "PYTHONPATH")
SHOWN_CHARACTERS = 200


# -- finding ---------------------------------------------------------------------------------------------------------


def answering(path: Path, *, trusted: bool = True, within_s: float = CONNECT_S) -> int | None:
    """Process id of the daemon that listens on a socket; None = nobody does, or not one of root or of this user."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(max(0.01, within_s))
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return None
        peer = peer_of(probe)
    return peer.pid if trusted or peer.uid in {0, os.geteuid()} else None


def installed(named: Path | None) -> Path | None:
    """Socket of the daemon that is there already: the named one, the system's, the user's own. A dead one is none."""
    if named is not None and answering(named) is not None:
        return named
    return next((path for path in (SYSTEM_PATH, user_path()) if answering(path, trusted=False) is not None), None)


# -- the client's side -----------------------------------------------------------------------------------------------


class Private:
    """The daemon of one run, started as `program DIRECTORY arguments` if it has to be."""

    def __init__(self, run_id: str, arguments: Sequence[str] = (), *, program: Sequence[str] = PROGRAM) -> None:
        """`arguments` are the settings' flags. Raises FailureError where there is no place for it."""
        self.directory = home() / f"run-{hashlib.sha256(os.fsencode(run_id)).hexdigest()[:16]}"
        self.socket = self.directory / SOCKET
        self._command = [*program, os.fspath(self.directory), *arguments]

    def bring(self, within_s: float) -> None:
        """Return when it answers, started if need be. Raises FailureError: not in this time, or it cannot start."""
        ends_s = time.monotonic() + within_s
        while answering(self.socket) is None:
            with _holding(self.directory, ends_s):
                if answering(self.socket) is None:
                    self._start(ends_s)

    def stop(self) -> None:
        """Tell it to end, and see it gone; while a run is alive it stays. Raises FailureError if it cannot end."""
        pid = answering(self.socket)
        if pid is None:
            return
        try:
            watch = os.pidfd_open(pid)
        except OSError:  # gone, or in another PID namespace: then nobody can watch it
            watch = -1
        try:
            ask(self.socket, {"op": "stop"}, timeout_s=STOP_S)
            gone = watch < 0 or bool(select.select([watch], [], [], STOP_S)[0])
        except FailureError:
            return  # it is needed, or on its way out
        finally:
            if watch >= 0:
                os.close(watch)
            _has_ended(pid)
        if not gone:
            raise FailureError(f"the private daemon (process {pid}) has not ended; end it with kill {pid}")

    def _start(self, ends_s: float) -> None:
        log = self.directory / LOG
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            said = os.open(log, flags, 0o600)
            try:
                process = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    cwd="/",
                    env=_own_environment(),
                    start_new_session=True,
                )
            finally:
                os.close(said)
        except OSError as error:
            _remove_empty(self.directory)
            raise FailureError(f"cannot start a private daemon: {error.strerror or error}") from error
        # It outlives us: as far as `subprocess` is concerned, nobody has to wait for it.
        process.returncode = 0
        while answering(self.socket) is None:
            if _has_ended(process.pid) and answering(self.socket) is None:
                said_last = _last_line(log) or "without a word"
                _remove_empty(self.directory)
                raise FailureError(f"the private daemon has ended: {said_last}")
            if time.monotonic() > ends_s:
                raise FailureError(f"the private daemon does not answer yet; its log is {log}")
            time.sleep(LOOK_EVERY_S)


def home() -> Path:
    """Where private daemons of this user live: nobody else can write there. Made if need be. Raises FailureError."""
    places = [user_path().parent, Path(tempfile.gettempdir()) / f"trainwatt-{os.geteuid()}"]
    places.append(Path("/tmp") / places[-1].name)  # noqa: S108  (verified to be ours; TMPDIR may be too long for a socket)
    fits = [
        place
        for place in places
        if len(os.fsencode(place / f"run-{'0' * 16}" / ".socket.4194304")) <= LONGEST_PATH_BYTES
    ]
    place = (fits or places)[0]
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
    except OSError as error:
        raise FailureError(
            f"cannot make {place}: {error.strerror}; set XDG_RUNTIME_DIR to a directory of yours"
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise FailureError(f"{place} is no directory of yours alone; remove it, or set XDG_RUNTIME_DIR to one that is")
    return place


def _own_environment() -> dict[str, str]:
    """Ours, without what is meant for the job. PYTHONPATH stays only as far as trainwatt itself is found by it."""
    own = {name: text for name, text in os.environ.items() if name not in NOT_ITS_OWN}
    here = os.path.dirname(os.path.dirname(os.path.abspath(monitor.__file__)))  # noqa: PTH100, PTH120  (as trainwatt.py)
    if here in {os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}:  # noqa: PTH100
        own["PYTHONPATH"] = here
    return own


def _has_ended(child: int) -> bool:
    """Whether a process that we may have started has ended; it is reaped then."""
    try:
        return os.waitpid(child, os.WNOHANG)[0] == child
    except ChildProcessError:
        return True


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text("utf-8", "replace").split("\n")
    except OSError:
        return ""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return last.removeprefix("trainwatt: ")[:SHOWN_CHARACTERS]


# -- the daemon's side -----------------------------------------------------------------------------------------------


def remove(directory: Path) -> bool:
    """Remove the directory of a daemon that has ended. False: somebody is about to start the next one in it."""
    try:
        with _holding(directory, time.monotonic(), make=False):
            for entry in directory.iterdir():
                if entry.name == LOCK:
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)
            # The lock goes last: who waits for it finds that its name has gone, and begins anew.
            (directory / LOCK).unlink(missing_ok=True)
            directory.rmdir()
    except (FailureError, OSError):
        return False
    return True


def _remove_empty(directory: Path) -> None:
    """Remove it, whose lock is held, if there is no ledger in it that a later daemon could go on with."""
    with contextlib.suppress(OSError):
        if {entry.name for entry in directory.iterdir()} <= {LOCK, LOG}:
            (directory / LOG).unlink(missing_ok=True)
            (directory / LOCK).unlink()
            directory.rmdir()


# -- the lock --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _holding(directory: Path, ends_s: float, *, make: bool = True) -> Iterator[None]:
    """Hold the directory's lock, the directory made if need be. Raises FailureError when others keep it too long."""
    while True:
        try:
            if make:
                directory.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            if make and time.monotonic() <= ends_s:
                continue  # it went between the two
            raise FailureError(f"{directory} has gone") from None
        except OSError as error:
            raise FailureError(f"cannot use {directory}: {error.strerror}") from error
        try:
            _wait_for(lock, ends_s)
            if _is_at(lock, directory / LOCK):
                yield
                return
        finally:
            os.close(lock)


def _wait_for(lock: int, ends_s: float) -> None:
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends_s:
                raise FailureError("another rank is starting the private daemon and has not got it yet") from None
            time.sleep(LOOK_EVERY_S)
        else:
            return


def _is_at(lock: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except FileNotFoundError:
        return False
