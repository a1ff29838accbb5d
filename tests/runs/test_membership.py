"""Processes as the kernel tells them, and the watch over their ends: on real children."""

import asyncio
import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import pytest

from monitor.runs.identity import Process
from monitor.runs.membership import ProcessTable, Watcher, user_name
from tests.harness import poll

TABLE = ProcessTable()


@contextmanager
def child() -> Iterator[subprocess.Popen[str]]:
    """A process that lives until its standard input is closed."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def identified(pid: int) -> Process:
    """A process that is alive."""
    process = TABLE.identify(pid)

    assert process is not None
    return process


@dataclass
class Book:
    """Notes what it is told."""

    wanted: set[Process] = field(default_factory=set)
    ended: list[Process] = field(default_factory=list)
    runs_ended: list[bool] = field(default_factory=list)

    def members(self) -> frozenset[Process]:
        """Whose end matters."""
        return frozenset(self.wanted)

    def process_ended(self, process: Process) -> bool:
        """Note it."""
        self.wanted.discard(process)
        self.ended.append(process)
        return True


@contextmanager
def watching(
    book: Book, *, open_pidfd: Callable[[int], int] = os.pidfd_open, poll_s: float = 5.0, most: int = 512
) -> Iterator[Watcher]:
    """A watcher at work in a thread."""
    watcher = Watcher(
        book,
        TABLE,
        on_end=lambda: book.runs_ended.append(True),
        open_pidfd=open_pidfd,
        poll_s=poll_s,
        most_descriptors=most,
    )
    loop = asyncio.new_event_loop()
    began = Event()
    tasks: list[asyncio.Task[None]] = []

    async def work() -> None:
        tasks.append(asyncio.create_task(watcher.run()))
        await asyncio.sleep(0)
        began.set()
        await asyncio.wait(tasks)

    thread = Thread(target=loop.run_until_complete, args=(work(),))
    thread.start()
    assert began.wait(10)
    try:
        yield watcher
    finally:
        loop.call_soon_threadsafe(tasks[0].cancel)
        thread.join(10)
        loop.close()


def descriptors() -> int:
    """How many are open of the kinds that a watcher has, such as pidfds: other tests' threads have files of theirs."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            count += str(entry.readlink()).startswith("anon_inode:")
    return count


def test_a_process_is_told_by_number_and_start() -> None:
    """The same for as long as it lives, another one for another, none once it has ended, reaped or not."""
    with child() as one, child() as other:
        first = identified(one.pid)

        assert first == TABLE.identify(one.pid) != TABLE.identify(other.pid)
        assert TABLE.alive(first)
        assert not TABLE.alive(Process(first.pid, first.start_ticks + 1))
        assert TABLE.parent(one.pid) == TABLE.identify(os.getpid())
        one.kill()
        poll.until(lambda: not TABLE.alive(first), what="the end of a child")  # nobody has reaped it

        assert TABLE.identify(one.pid) is None
    assert TABLE.identify(one.pid) is None
    assert TABLE.uid(one.pid) is None
    assert TABLE.identify(0) is TABLE.identify(-1) is TABLE.parent(0) is None


def test_whose_a_process_is() -> None:
    """Its effective user, and where it counts: we and our children in the same PID namespace, nobody in none."""
    with child() as one:
        assert TABLE.uid(one.pid) == os.geteuid()
        assert TABLE.depth(one.pid) == TABLE.depth("self") >= 1
    assert TABLE.depth(one.pid) == 0
    assert TABLE.boot_id().count("-") == 4
    assert user_name(0) == "root"
    assert user_name(4_000_000_000) == "4000000000"


@pytest.mark.parametrize("command", ["cat", "a b", "((", ") S 1 2 3 ()", "0 1 2 3"])
def test_a_command_may_be_called_anything(tmp_path: Path, command: str) -> None:
    """Blanks and parentheses in the name of a command move no field."""
    (tmp_path / "7").mkdir()
    rest = " ".join(str(number) for number in range(4, 53))
    (tmp_path / "7" / "stat").write_text(f"7 ({command}) S {rest}\n")

    assert Process(7, 22) == ProcessTable(tmp_path).identify(7)


@pytest.mark.parametrize("text", ["", "7 (cat", "7 (cat) S 1 2"])
def test_half_a_line_is_no_process(tmp_path: Path, text: str) -> None:
    """What was cut short tells nothing."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(text)

    assert ProcessTable(tmp_path).identify(7) is None


def test_a_process_renamed_itself() -> None:
    """A real process whose name looks like the end of its line is identified all the same."""
    code = "open('/proc/self/comm', 'w').write(') R 1 1 1'); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()

        assert TABLE.parent(process.pid) == TABLE.identify(os.getpid())
        process.communicate("\n", timeout=10)


@pytest.mark.parametrize("way", ["killed", "ended"])
def test_an_end_is_told_at_once(way: str) -> None:
    """However a member ends, the book hears of it once, by pidfd, with nothing looked at in between."""
    book = Book()
    with child() as known, child() as later, watching(book, poll_s=1e6) as watcher:
        process = identified(later.pid)
        book.wanted = {process}
        before = descriptors()
        watcher.watch(process)
        watcher.watch(process)
        poll.until(lambda: descriptors() == before + 1, what="the watch")
        if way == "killed":
            later.kill()
        else:
            assert later.stdin is not None
            later.stdin.close()
        poll.until(lambda: book.ended, what="the end of a member")

        assert [process] == book.ended
        assert [True] == book.runs_ended
        assert known.poll() is None


def test_what_was_there_before_is_watched() -> None:
    """A restored book's processes are watched from the start; one that died before is told at once."""
    with child() as one, child() as other:
        living, dead = identified(one.pid), Process(other.pid, 1)
        book = Book({living, dead})
        before = descriptors()
        with watching(book, poll_s=1e6):
            poll.until(lambda: book.ended == [dead], what="the end of who had another start")
            one.kill()
            poll.until(lambda: book.ended == [dead, living], what="the end of the living")

        assert before >= descriptors()


def test_a_gone_process_is_told_at_once() -> None:
    """A member that ended before it could be watched has ended."""
    with child() as one:
        process = identified(one.pid)
    book = Book()
    with watching(book, poll_s=1e6) as watcher:
        watcher.watch(process)
        poll.until(lambda: book.ended == [process], what="the end of who had gone")


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM, errno.EMFILE])
def test_without_pidfd_it_is_looked(code: int) -> None:
    """Where the kernel offers no pidfd, or no descriptor is left, the members are looked at now and then."""

    def refuse(_pid: int) -> int:
        raise OSError(code, os.strerror(code))

    book = Book()
    with child() as one, watching(book, open_pidfd=refuse, poll_s=0.02) as watcher:
        process = identified(one.pid)
        book.wanted = {process}
        watcher.watch(process)
        one.kill()
        poll.until(lambda: book.ended == [process], what="the end of a member")


def test_descriptors_are_bounded() -> None:
    """Beyond the limit members are looked at; those whose end does not matter any more give their place."""
    book = Book()
    with (
        child() as one,
        child() as two,
        child() as three,
        watching(book, poll_s=0.02, most=1) as watcher,
    ):
        every = [identified(process.pid) for process in (one, two, three)]
        book.wanted = set(every[:2])
        before = descriptors()
        for process in every[:2]:
            watcher.watch(process)
        two.kill()
        poll.until(lambda: book.ended == [every[1]], what="the end of who is looked at")

        assert before + 1 == descriptors()
        book.wanted = {every[2]}
        watcher.watch(every[2])
        one.kill()
        three.kill()
        poll.until(lambda: every[2] in book.ended, what="the end of who took the place")

        assert before == descriptors()


def test_nobody_is_watched_after_the_end() -> None:
    """Once the watcher has ended, watching does nothing and leaves nothing."""
    book = Book()
    with child() as one:
        process = identified(one.pid)
        before = descriptors()
        with watching(book) as watcher:
            book.wanted = {process}
            watcher.watch(process)
        watcher.watch(process)

        assert before >= descriptors()
        assert [] == book.ended
