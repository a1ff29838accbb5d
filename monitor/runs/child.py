r"""A command run as if we were not there: our process group, session, terminal and environment; our exit is its exit.

The rules, those of sudo(8) but for one:

- What the terminal sends (^C, ^\, ^Z, a new size, a line that is cut) has reached the command, which shares our
  process group; it neither ends us nor is passed on.
- Whatever else a process sends to us is meant for the command and is passed on, unless the whole group was sent it:
  then the command has it. Both are usual: `docker stop`, a supervisor or a script's own `kill $pid` send to one
  process; Slurm, a shell's `kill %1` and timeout(1) to many. Neither siginfo tells them apart nor the sender's group,
  by which sudo judges. So a witness sits in the group with every signal blocked: what is pending there has reached
  everybody. It is a cat(1) on a pipe of ours, which ends with us. Signals of faults are not passed on.
- The command alone tells when to stop (^Z, reading a terminal in the background, kill -STOP): when it has stopped, we
  stop, so that the shell sees it; continued alone, we continue it. A group that no shell watches we do not stop in.
- SIGPIPE, SIGXFSZ and SIGCHLD are the command's own again, whatever Python or our parent made of them.
- If a signal ended the command, it ends us.

Children of ours that are not the command (orphans, where we are the first process of a container) are reaped.
"""

import contextlib
import errno
import os
import resource
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from monitor.errors import UsageError

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""Exit codes of a command that cannot be run (POSIX, sh)."""
OWN_AGAIN = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD)
STOPS = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
FAULTS = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS, *OWN_AGAIN[:2]}
)
PASSED_ON = frozenset(signal.valid_signals() - FAULTS - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD})
"""To the command: real-time signals, too, for schedulers let their users choose."""
LOOKS_S = (0.0, 0.002, 0.01, 0.04)
"""Pauses between looks at the witness: who signals process by process may come to it after us."""
WITNESS = "cat"


class CommandError(UsageError):
    """There is no such command, or it cannot be executed; nothing was started."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def require(command: Sequence[str]) -> None:
    """Raise CommandError unless the first word can be executed, as execvp(3) looks for it."""
    word = command[0]
    if shutil.which(word) is not None:
        return
    places = [word] if "/" in word else [os.path.join(place or ".", word) for place in os.get_exec_path()]  # noqa: PTH118
    if word and any(os.path.exists(place) for place in places):  # noqa: PTH110  (shutil and execvp know strings)
        raise CommandError(f"{word}: it is there but cannot be executed; make it executable", NOT_EXECUTABLE)
    raise CommandError(f"{word}: command not found", NOT_FOUND)


def environment() -> dict[str, str]:
    """What we were started with: os.environ may hold an LC_CTYPE that Python has put there (PEP 538)."""
    try:
        block = Path("/proc/self/environ").read_bytes()
    except OSError:
        return dict(os.environ)
    entries = (os.fsdecode(entry).partition("=") for entry in block.split(b"\0"))
    return {name: text for name, equals, text in entries if name and equals}


class Child:
    """The command at work. From entering to leaving, signals to us wait for `wait`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.pid = 0
        self._command = list(command)
        self._environment = dict(environment)
        self._mask: set[int] = set()
        self._witness = _Witness()

    def __enter__(self) -> Self:
        """Start it. Raises CommandError."""
        # A parent that ignored SIGCHLD has us ignore it, and then no child leaves an exit code.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._mask = set(signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON | {signal.SIGCHLD}))
        try:
            self._witness.start()
            self.pid = self._spawn()
        except OSError as error:
            self.__exit__()
            missing = isinstance(error, FileNotFoundError)
            hint = " (or the interpreter in its first line)" if missing else ""
            code = NOT_FOUND if missing else NOT_EXECUTABLE
            raise CommandError(f"cannot run {self._command[0]}{hint}: {error.strerror}", code) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        """What came for a command that has ended is forgotten."""
        self._witness.stop()
        while signal.sigtimedwait(PASSED_ON, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _spawn(self) -> int:
        try:
            return self._exec(self._command)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
        # A script without a first line that names its interpreter: execvp(3) gives it to the shell.
        path = shutil.which(self._command[0]) or self._command[0]
        return self._exec(["/bin/sh", path, *self._command[1:]])

    def _exec(self, command: list[str]) -> int:
        return os.posix_spawnp(command[0], command, self._environment, setsigmask=self._mask, setsigdef=OWN_AGAIN)

    def wait(self, meanwhile: Callable[[], bool] | None = None, every_s: float = 1.0) -> int:
        """Pass signals on until it has ended: its exit code, or the number of the signal that ended it, negative.

        `meanwhile` is called now and then while it runs, until it returns False.
        """
        watched = PASSED_ON | {signal.SIGCHLD}
        while True:
            if meanwhile is None:
                info: signal.struct_siginfo | None = signal.sigwaitinfo(watched)
            else:
                info = signal.sigtimedwait(watched, every_s)
            if info is None:
                meanwhile = meanwhile if meanwhile is not None and meanwhile() else None
            elif info.si_signo == signal.SIGCHLD:
                status = self._reap()
                if status is not None:
                    return status
            else:
                self._pass_on(info)

    def _reap(self) -> int | None:
        while True:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WSTOPPED | os.WNOHANG)
            if found is None:
                return None
            if found.si_pid != self.pid:
                continue
            if found.si_code == os.CLD_STOPPED:
                self._stop_too(found.si_status)
            elif found.si_code in {os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED}:
                return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    # -- signals -----------------------------------------------------------------------------------------------------

    def _pass_on(self, info: signal.struct_siginfo) -> None:
        number = info.si_signo
        if number == signal.SIGCONT:
            # A stop takes the SIGCONT before it away: one that waits for us came after this one, and holds.
            if self._is_stopped() and not STOPS & signal.sigpending():
                self._send(number)
            return
        from_a_process = info.si_code <= 0
        if from_a_process and info.si_pid != self.pid and not self._witness.has(number):
            self._send(number)

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # gone, or another user by now (sudo)
            os.kill(self.pid, number)

    def _stop_too(self, number: int) -> None:
        # Continued in the meantime: the command's turn comes next. To stop would take that SIGCONT away.
        if signal.SIGCONT in signal.sigpending() or not self._is_stopped() or not _has_terminal():
            return
        # Not SIGSTOP: the kernel drops these three in a group that no shell watches (POSIX: orphaned), where nobody
        # would ever continue us. To the process, not the thread, so that it is one with what the terminal has sent.
        stop = number if number in STOPS else signal.SIGTSTP
        os.kill(os.getpid(), stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {stop})
        signal.pthread_sigmask(signal.SIG_BLOCK, {stop})

    def _is_stopped(self) -> bool:
        return _stat(self.pid)[:1] == [b"T"]


def _has_terminal() -> bool:
    """Whether our session has one: without it no shell controls jobs."""
    return _stat(os.getpid())[4:5] != [b"0"]


def _stat(pid: int) -> list[bytes]:
    """The fields of proc_pid_stat(5) from the state on; none of a process that has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except OSError:
        return []


class _Witness:
    """A process of our group that every signal to the group reaches, and in which it stays pending."""

    def __init__(self) -> None:
        self._pid = 0
        self._hold = -1

    def start(self) -> None:
        """Without cat(1) there is none: then every signal is passed on."""
        ours, its = -1, -1
        try:
            its, ours = os.pipe()
            null = os.open(os.devnull, os.O_RDWR)
        except OSError:
            return
        actions = [(os.POSIX_SPAWN_DUP2, its, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
        blocked = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
        with contextlib.suppress(OSError):
            self._pid = os.posix_spawnp(WITNESS, [WITNESS], {}, file_actions=actions, setsigmask=blocked)
        os.close(its)
        os.close(null)
        self._hold = ours

    def stop(self) -> None:
        """End it."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            self._pid = 0
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1

    def has(self, number: int) -> bool:
        """Whether the signal was sent to it, too. What it has seen it keeps, so it is then replaced by a fresh one."""
        for pause_s in LOOKS_S if self._pid else ():
            time.sleep(pause_s)
            if self._pending() & (1 << (number - 1)):
                self.stop()
                self.start()
                return True
        return False

    def _pending(self) -> int:
        """Bits of the signals pending for the process: ShdPnd of proc_pid_status(5)."""
        try:
            status = Path(f"/proc/{self._pid}/status").read_text("ascii", "replace")
        except OSError:
            return 0
        return next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("ShdPnd:")), 0)


def end_like(status: int) -> int:
    """The exit code of `Child.wait`'s result; where a signal ended the command, it ends us now, without a core dump."""
    if status >= 0:
        return status
    number = -status
    _no_core()
    with contextlib.suppress(OSError, ValueError):  # SIGKILL has no disposition
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    # The first process of a container outlives even SIGKILL of its own.
    return 128 + number


def _no_core() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    # 1 also keeps from calling a program that collects dumps, where core_pattern names one (core(5)); 0 does not.
    least = 0 if hard == 0 else 1
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (least, hard))
