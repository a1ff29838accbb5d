"""A command under our wings, from the outside: real terminals, real shells, real signals."""

import contextlib
import fcntl
import os
import pty
import shlex
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from monitor.runs import child
from tests.harness import need, poll

RUN = [
    sys.executable,
    "-c",
    (
        "import sys\n"
        "from monitor.runs import child\n"
        "child.require(sys.argv[1:])\n"
        "with child.Child(sys.argv[1:], child.environment()) as it:\n"
        "    status = it.wait()\n"
        "sys.exit(child.end_like(status))\n"
    ),
]
# Says what it is sent and how often; ends at the end of its input, or with 7 at the second SIGQUIT.
JOB = [
    sys.executable,
    "-c",
    (
        "import os, signal, sys\n"
        "counts = {}\n"
        "def note(number, _frame):\n"
        "    counts[number] = counts.get(number, 0) + 1\n"
        "    os.write(1, f'{signal.Signals(number).name} {counts[number]}\\n'.encode())\n"
        "    if counts.get(signal.SIGQUIT) == 2: os._exit(7)\n"
        "for number in (1, 2, 3, 10, 12, 14, 15, signal.SIGRTMIN): signal.signal(number, note)\n"
        "os.write(1, f'ready {os.getpid()} {os.getppid()}\\n'.encode())\n"
        "while line := os.read(0, 100): os.write(1, b'heard ' + line)\n"
    ),
]
ON_A_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


def state(pid: int) -> str:
    """What a process does, as a letter; "" = it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return ""


def pending(pid: int, number: int) -> bool:
    """Whether a process has been sent a signal that it has not taken yet."""
    field = Path(f"/proc/{pid}/status").read_text().split("ShdPnd:")[1].split()[0]
    return bool(int(field, 16) & (1 << (number - 1)))


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def end_session(leader: subprocess.Popen[bytes]) -> None:
    """End a session and whatever is left of it."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(") ")[2].split()[3] == str(leader.pid):
                os.kill(int(stat.parent.name), signal.SIGKILL)
    leader.wait(10)


class Talk:
    """What comes out of a file descriptor, as far as it has been read."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.text = ""
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)

    def wait_for(self, words: str) -> str:
        """Return what was said before these words; it and they are taken off."""

        def said() -> bool:
            with contextlib.suppress(BlockingIOError, OSError):
                self.text += os.read(self.descriptor, 65536).decode()
            return words in self.text

        try:
            poll.until(said, what=words, within_s=20.0)
        except TimeoutError:
            pytest.fail(f"{words!r} did not come, but {self.text!r}")
        before, _, self.text = self.text.partition(words)
        return before

    def line(self, start: str) -> list[str]:
        """The words of the next line that starts so, after the start."""
        self.wait_for(start)
        return self.wait_for("\n").split()

    def write(self, text: str) -> None:
        """Type."""
        os.write(self.descriptor, text.encode())


@contextmanager
def terminal(command: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[tuple[Talk, int]]:
    """Run a command as the leader of a session with a terminal of its own; the other end, and its process id."""
    ours, its = pty.openpty()
    attributes = termios.tcgetattr(its)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(its, termios.TCSANOW, attributes)
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *command], stdin=its, stdout=its, stderr=its, env=env
    )
    os.close(its)
    try:
        yield Talk(ours), process.pid
    finally:
        end_session(process)
        os.close(ours)


@contextmanager
def shell() -> Iterator[Talk]:
    """An interactive bash on a terminal, with job control."""
    env = {"PATH": os.environ["PATH"], "PS1": "$ ", "HISTFILE": "", "TERM": "dumb"}
    with terminal([need.program("bash"), "--norc", "--noprofile", "--noediting", "-i"], env) as (talk, _pid):
        yield talk


@contextmanager
def job(env: Mapping[str, str] | None = None) -> Iterator[tuple[Talk, int, int]]:
    """A job under our wings without a terminal: its talk, its process id, and ours."""
    process = subprocess.Popen(
        [*RUN, *JOB], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=env
    )

    assert process.stdout is not None
    assert process.stdin is not None
    talk = Talk(process.stdout.fileno())
    try:
        own, ours = (int(word) for word in talk.line("ready"))
        yield talk, own, ours
    finally:
        process.stdin.close()
        end_session(process)
        process.stdout.close()


# -- endings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("true", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -TERM $$", -signal.SIGTERM),
        ("kill -KILL $$", -signal.SIGKILL),
        ("kill -SEGV $$", -signal.SIGSEGV),
        ("kill -INT $$", -signal.SIGINT),
        ("kill -USR1 $$", -signal.SIGUSR1),
        (f"kill -{int(signal.SIGRTMIN)} $$", -signal.SIGRTMIN),
    ],
)
def test_the_end_is_the_commands(command: str, code: int, tmp_path: Path) -> None:
    """Its exit code is ours, the signal that ended it ends us, and no core of ours is left."""
    done = subprocess.run([*RUN, "sh", "-c", f"ulimit -c 0; {command}"], cwd=tmp_path, timeout=30, check=False)

    assert code == done.returncode
    assert [] == list(tmp_path.iterdir())


def test_a_fast_command_is_not_missed() -> None:
    """A command that ends at once is seen to end, a hundred times."""
    program = (
        "import sys\n"
        "from monitor.runs import child\n"
        "for _ in range(100):\n"
        "    with child.Child(sys.argv[1:], {}) as it: assert it.wait() == 5\n"
    )
    done = subprocess.run([sys.executable, "-c", program, "/bin/sh", "-c", "exit 5"], timeout=60, check=False)

    assert done.returncode == 0


@pytest.mark.parametrize(
    ("word", "code"),
    [("no-such-command", 127), ("/no/such/command", 127), ("{tmp}/plain", 126), ("{tmp}", 126), ("", 127)],
)
def test_a_command_that_cannot_be_run(word: str, code: int, tmp_path: Path) -> None:
    """What is not there is 127, what cannot be executed is 126, as in a shell, and one line says so."""
    (tmp_path / "plain").write_text("echo hi\n")
    with pytest.raises(child.CommandError) as caught:
        child.require([word.format(tmp=tmp_path)])

    assert code == caught.value.exit_code
    assert "\n" not in str(caught.value)


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    """A script whose first line names nothing that exists is told with that hint, exit 127; signals are as before."""
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with (
        pytest.raises(child.CommandError, match="interpreter in its first line") as caught,
        child.Child([str(script)], {}),
    ):
        pass

    assert caught.value.exit_code == 127
    assert before == signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_script_without_an_interpreter_is_the_shells(tmp_path: Path) -> None:
    """As execvp does it."""
    script = tmp_path / "script"
    script.write_text('echo "$0 $1"; exit 4\n')
    script.chmod(0o755)
    done = subprocess.run([*RUN, str(script), "word"], stdout=subprocess.PIPE, text=True, timeout=30, check=False)

    assert (4, f"{script} word\n") == (done.returncode, done.stdout)


def test_a_parent_that_ignores_sigchld() -> None:
    """The exit code arrives all the same."""
    words = shlex.join([*RUN, "sh", "-c", "exit 5"])

    assert subprocess.run(["bash", "-c", f"trap '' CHLD; exec {words}"], timeout=30, check=False).returncode == 5


# -- what it inherits ------------------------------------------------------------------------------------------------


def test_it_starts_as_if_we_were_not_there() -> None:
    """Blocked and ignored signals, process group, session and environment are as without us; C.UTF-8 is not added."""
    show = "grep -hE '^Sig(Blk|Ign):' /proc/self/status; cut -d' ' -f5,6 /proc/$$/stat; env | sort"
    env = {"PATH": os.environ["PATH"], "LANG": "C", "ODD": "a=b\n\x01", "PYTHONPATH": "/no/such/place"}
    seen = []
    for run in (["env"], RUN):
        done = subprocess.run(
            ["bash", "-c", f"trap '' HUP; {shlex.join(run)} {shlex.join(['sh', '-c', show])}; exit $?"],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            timeout=30,
            check=True,
        )
        blocked, ignored, group, *variables = done.stdout.splitlines()
        # 32 and 33 are the C library's own; its posix_spawn(3) leaves them ignored.
        masks = [int(line.split()[1], 16) & ~(3 << 31) for line in (blocked, ignored)]
        # Each shell counts itself.
        seen.append((masks, len(set(group.split())), [v for v in variables if not v.startswith(("_=", "SHLVL="))]))

    assert seen[0] == seen[1]
    assert ([0, 1], 1) == seen[1][:2]


def test_what_it_reads_and_writes_is_ours() -> None:
    """Standard input and output go straight through."""
    done = subprocess.run([*RUN, "cat"], input=b"\x00\xff" * 100_000, stdout=subprocess.PIPE, timeout=30, check=False)

    assert (0, b"\x00\xff" * 100_000) == (done.returncode, done.stdout)


def test_a_closed_pipe_ends_it() -> None:
    """SIGPIPE is its own again: `yes | head -1` ends."""
    words = shlex.join([*RUN, "yes"])
    done = subprocess.run(
        ["bash", "-c", f"{words} | head -1; echo ${{PIPESTATUS[0]}}"],
        stdout=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )

    assert ["y", f"{128 + signal.SIGPIPE}"] == done.stdout.split()


def test_closed_descriptors_stay_closed() -> None:
    """Started without standard input, output and error, it has none either."""
    words = shlex.join([*RUN, "sh", "-c", "for d in 0 1 2; do [ -e /proc/$$/fd/$d ] && exit 1; done; exit 6"])

    assert subprocess.run(["bash", "-c", f"{words} <&- >&- 2>&-"], timeout=30, check=False).returncode == 6


# -- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGUSR1", "SIGALRM", "SIGRTMIN"])
def test_a_signal_to_us_reaches_it_once(name: str) -> None:
    """What a process sends to us alone is passed on, each time."""
    with job() as (talk, _own, ours):
        for count in ("1", "2"):
            os.kill(ours, getattr(signal, name))

            assert [count] == talk.line(name)
        os.kill(ours, signal.SIGUSR2)

        assert "" == talk.wait_for("SIGUSR2 1")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_to_the_group_reaches_it_once(name: str) -> None:
    """What the whole group was sent, such as by Slurm, it has already; what then comes to us alone is passed on."""
    with job() as (talk, _own, ours):
        for count in (1, 2):
            os.killpg(ours, getattr(signal, name))

            assert [str(count)] == talk.line(name)
            # Passed on after whatever came before it.
            os.kill(ours, signal.SIGUSR2)

            assert "" == talk.wait_for(f"SIGUSR2 {count}\n")
        os.kill(ours, getattr(signal, name))

        assert ["3"] == talk.line(name)


def test_a_script_may_end_it() -> None:
    """From a script, which shares the group, `kill $!` reaches it once, and `wait` tells its exit code."""
    script = (
        f"{shlex.join([*RUN, *JOB])} < <(sleep 60) > >(tee /dev/stderr) & it=$!; read -r _;"
        " kill -QUIT $it; read -r _; kill -QUIT $it; wait $it; echo code $?"
    )
    with subprocess.Popen(
        ["bash", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        talk = Talk(process.stdout.fileno())
        talk.line("ready")
        process.stdin.write(b"\n")
        process.stdin.flush()

        assert ["1"] == talk.line("SIGQUIT")
        process.stdin.write(b"\n")
        process.stdin.flush()

        assert ["7"] == talk.line("code")
        os.killpg(process.pid, signal.SIGKILL)


def test_it_does_not_signal_itself_through_us() -> None:
    """What the command sends to its parent is not sent back to it."""
    script = "trap 'echo back' USR1; kill -USR1 $PPID; trap 'exit 8' TERM; kill -TERM 0; wait"
    words = shlex.join([*RUN, "bash", "-c", script])
    done = subprocess.run(
        ["bash", "-c", f"trap : TERM; {words}; echo $?"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        timeout=30,
        check=False,
    )

    assert done.stdout == "8\n"


def test_without_cat_signals_are_passed_on(tmp_path: Path) -> None:
    """On a system without cat(1) what is sent to us still reaches the command."""
    with job(env={"PATH": str(tmp_path)}) as (talk, _own, ours):
        os.kill(ours, signal.SIGTERM)

        assert ["1"] == talk.line("SIGTERM")


def test_nothing_is_left_when_we_are_killed() -> None:
    """After kill -9 of us the command goes on, and the witness has gone."""
    with job() as (talk, own, ours):
        (witness,) = [pid for pid in children(ours) if pid != own]
        os.kill(ours, signal.SIGKILL)
        poll.until(lambda: state(witness) in {"", "Z"}, what="the end of the witness")
        os.kill(own, signal.SIGTERM)

        assert ["1"] == talk.line("SIGTERM")


# -- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_terminal", [False, True])
def test_where_no_shell_watches_we_do_not_stop(*, with_terminal: bool) -> None:
    """The command is stopped and continued alone, in a group without a shell: we go on, else nobody would wake us."""
    with ExitStack() as stack:
        if with_terminal:
            talk, _pid = stack.enter_context(terminal([*RUN, *JOB]))
            own, ours = (int(word) for word in talk.line("ready"))
        else:
            talk, own, ours = stack.enter_context(job())
        os.kill(own, signal.SIGSTOP)
        poll.until(lambda: state(own) == "T", what="the stop")
        os.kill(ours, signal.SIGTERM)
        poll.until(lambda: pending(own, signal.SIGTERM), what="SIGTERM")
        os.kill(own, signal.SIGCONT)

        assert ["1"] == talk.line("SIGTERM")


def test_continued_alone_we_continue_it() -> None:
    """SIGCONT to us continues a command that is stopped."""
    with job() as (talk, own, ours):
        os.kill(own, signal.SIGSTOP)
        poll.until(lambda: state(own) == "T", what="the stop")
        os.kill(ours, signal.SIGCONT)
        poll.until(lambda: state(own) != "T", what="the command")
        os.kill(own, signal.SIGTERM)

        assert ["1"] == talk.line("SIGTERM")


# -- the terminal ----------------------------------------------------------------------------------------------------


def test_the_interrupt_key_reaches_it_once() -> None:
    """Its keys for interrupt and quit reach the command, not twice, and do not end us."""
    with terminal([*RUN, *JOB]) as (talk, ours):
        talk.line("ready")
        for count in ("1", "2"):
            talk.write("\x03")

            assert [count] == talk.line("SIGINT")
        talk.write("\x1c")

        assert ["1"] == talk.line("SIGQUIT")
        os.kill(ours, signal.SIGUSR2)

        assert "" == talk.wait_for("SIGUSR2 1").strip()


def test_the_suspend_key_stops_both_and_fg_continues_both() -> None:
    """^Z gives the terminal back to the shell; after fg the command has it again, three times over."""
    with shell() as talk:
        talk.write(shlex.join([*RUN, *JOB]) + "\n")
        own, ours = (int(word) for word in talk.line("ready"))
        for count in range(3):
            talk.write("\x1a")
            talk.wait_for("Stopped")

            assert ("T", "T") == (state(own), state(ours))
            talk.write("fg\n")
            talk.write(f"hello {count}\n")

            assert [str(count)] == talk.line("heard hello")
        talk.write("\x04")
        talk.write("echo code $?\n")

        assert ["0"] == talk.line("code")


def test_the_suspend_key_right_after_fg_holds() -> None:
    """Slow as we are to look at the command that went on, it may have been stopped again: it stays stopped."""
    slow = "import pathlib, time\nat_once = pathlib.Path.read_bytes\n"
    slow += "pathlib.Path.read_bytes = lambda path: (time.sleep(0.3), at_once(path))[1]\n"
    command = [*RUN[:2], slow + RUN[2], *JOB]
    with shell() as talk:
        talk.write(shlex.join(command) + "\n")
        own, ours = (int(word) for word in talk.line("ready"))
        for _ in range(2):
            talk.write("\x1a")
            talk.wait_for("Stopped")

            assert ("T", "T") == (state(own), state(ours))
            talk.write("fg\nhello\n")
            talk.line("heard hello")


def test_a_command_that_does_not_stop_keeps_the_terminal() -> None:
    """^Z to a command that ignores it changes nothing, as without us."""
    with shell() as talk:
        talk.write(shlex.join([*RUN, "env", "--ignore-signal=TSTP", *JOB]) + "\n")
        talk.line("ready")
        talk.write("\x1a")
        talk.write("hello\n")

        assert [] == talk.line("heard hello")


def test_in_the_background_it_stops_for_the_terminal() -> None:
    """Reading the terminal in the background stops both; fg gives it the terminal, bg continues it."""
    with shell() as talk:
        talk.write(shlex.join([*RUN, *JOB]) + " &\n")
        own, ours = (int(word) for word in talk.line("ready"))
        poll.until(lambda: (state(own), state(ours)) == ("T", "T"), what="the stop")
        talk.write("fg\n")
        talk.write("hello\n")
        talk.line("heard hello")
        talk.write("\x1a")
        talk.wait_for("Stopped")
        talk.write("kill -TERM %1; bg\n")

        assert ["1"] == talk.line("SIGTERM")
        poll.until(lambda: (state(own), state(ours)) == ("T", "T"), what="the stop for the terminal")


def test_the_shell_sees_a_command_that_was_stopped_alone() -> None:
    """A stop of the command stops us, too; fg continues both."""
    with shell() as talk:
        talk.write(shlex.join([*RUN, *JOB]) + "\n")
        own, _ours = (int(word) for word in talk.line("ready"))
        os.kill(own, signal.SIGSTOP)
        talk.wait_for("Stopped")
        talk.write("fg\n")
        talk.write("hello\n")

        assert [] == talk.line("heard hello")


def test_the_shells_kill_reaches_it_once(tmp_path: Path) -> None:
    """`kill %1` is sent to the group by a process outside of it: still once."""
    os.mkfifo(tmp_path / "silence")
    with shell() as talk:
        talk.write(f"{shlex.join([*RUN, *JOB])} 0<>{tmp_path / 'silence'} &\n")
        _own, ours = (int(word) for word in talk.line("ready"))
        talk.write("kill -USR1 %1\n")
        talk.line("SIGUSR1 1")
        os.kill(ours, signal.SIGUSR2)

        assert "SIGUSR1" not in talk.wait_for("SIGUSR2 1")
