"""What a training job may import, and the door to the `trainwatt` command. Standard library only, Python 3.8 syntax.

    import trainwatt

    with trainwatt.run("resnet50", tags={"optimizer": "adam"}):  # or: @trainwatt.run("resnet50") above a function
        for epoch in range(90):
            for batch in batches:
                train(batch)
                trainwatt.step(samples=len(batch))
            with trainwatt.phase("eval"):
                evaluate()
            trainwatt.progress(epoch + 1, 90)

Joules are then counted for this run, by phase, and per step, token and sample. In a job started by `trainwatt run`,
`step`, `phase` and `progress` need no `with`, and a `with` joins that run. None of it changes the job: nothing here
raises, waits, prints, starts a thread or touches a signal handler, and without a daemon nothing happens at all;
`stats()` tells what became of it. What is told goes over the daemon's Unix socket: counts at most every 5 s,
starts, phases and ends at once. At its end the interpreter may wait 0.2 s for a daemon that is slow to take the rest.

A run inside a run of the same process is part of the outer one: no joule belongs to two. A forked child counts for
itself, towards the run that it was forked in; any other child is no part of it (pass it `id=`, or use `trainwatt run`).
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock  # `threading` is slower to import, and its locks are these
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["main", "phase", "progress", "run", "stats", "step"]

_EVERY_S = 5.0
"""Counts are told at most so often."""
_RETRY_S = 10.0
"""So long after a failure the daemon is left alone."""
_EXIT_S = 0.2
"""The end of the interpreter is held up by no more."""
_HUNG_S = 1.0
"""A daemon that owes an answer for longer is not waited for at the end."""
_STALE_S = 30.0
"""A connection on which an answer is owed for longer is given up."""
_STUCK_S = 5.0
"""A lock that is held for longer was lost to an exception that came from outside, between two instructions."""
_MOST_OWED = 16
"""Requests without an answer: with more, a daemon that is behind would learn of changes later and later."""
_MOST_QUEUED = 1000
_MOST_PARTS = 64
_LARGEST = 10**18
_BOUNDS = "a number from 0 to 1e18 is wanted"
_RECV_BYTES = 65536
_RECVS = 4
_TURNS = 8
_LONGEST_LINE_BYTES = 60000
_LONGEST_PROBLEM = 300
_LONGEST_NAME = 1000
_LONGEST_TAG = 300
_MOST_TAGS = 32
_TOLD = (
    "TRAINWATT_RUN",
    "SLURM_JOB_ID",
    "SLURM_CLUSTER_NAME",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_JOB_GPUS",
    "SLURM_STEP_GPUS",
    "TORCHELASTIC_RUN_ID",
    "LOCAL_RANK",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "NVIDIA_VISIBLE_DEVICES",
)
"""The variables that tell a run's id and devices. No others leave the process."""
_SYSTEM_PATH = "/run/trainwatt/socket"
_FIRST_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO of linux/proc_ns.h


# -- what a job calls --------------------------------------------------------------------------------------------------


def run(
    name: str | None = None,
    id: str | None = None,
    project: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Run:
    """A run from here on: for `with`, or as a decorator of a function of any kind, each call of which is a run.

    `id` makes parts of one run of what is started apart (other nodes, a restart); without it the scheduler's, the
    launcher's or this process's own is taken. In a job started by `trainwatt run` it is that run, whatever is given.
    """
    bare = callable(name)  # @trainwatt.run without parentheses
    made = Run(None if bare else name, id, project, tags)
    return made(name) if bare else made  # type: ignore[type-var, return-value]


def step(n: int = 1, tokens: int = 0, samples: int = 0) -> None:
    """`n` steps of training are done, with so many tokens and samples of this process in them."""
    try:
        if n.__class__ is not int or tokens.__class__ is not int or samples.__class__ is not int:
            n, tokens, samples = _whole(n), _whole(tokens), _whole(samples)
        client = _client
        client.inbox.append((_Client.count, n, tokens, samples))
        if client.urgent or monotonic() >= client.due_s or len(client.inbox) > _MOST_QUEUED:
            client.pump()
    except Exception as error:
        _ignore(error)


def phase(name: str) -> Phase:
    """From now on the run is in this phase, such as train, eval or checkpoint; "" for none.

    As a context manager it ends with the block: the phase before goes on.
    """
    before = _client.phase
    try:
        _post(_Client.enter_phase, _text(name, _LONGEST_NAME) or "")
    except Exception as error:
        _ignore(error)
    return Phase(before)


def progress(done: float, total: float) -> None:
    """`done` of `total` is done, in any unit: the forecast to the end rests on it."""
    try:
        client = _client
        client.inbox.append((_Client.advance, _amount(done), _positive(total)))
        if client.urgent or monotonic() >= client.due_s or len(client.inbox) > _MOST_QUEUED:
            client.pump()
    except Exception as error:
        _ignore(error)


def stats() -> dict[str, Any]:
    """What became of the calls of this process.

    run: id of the run, None = in none, or not known yet. connected: to a daemon. sent: requests. dropped: what could
    not be told, for want of a daemon or of room; later counts include earlier ones. refused: by the daemon.
    ignored: calls with arguments that mean nothing. problem: the last reason for one of these, or None.
    """
    _post(_Client.rest)
    client = _client
    part = client.part
    return {
        "run": None if part is None else part.id,
        "connected": client.wire.sock is not None,
        "sent": client.wire.sent,
        "dropped": client.wire.dropped,
        "refused": client.refused,
        "ignored": client.ignored,
        "problem": client.problem,
    }


class Run:
    """What `trainwatt.run` returns; it may be entered again and again, also at the same time."""

    def __init__(self, name: Any, id: Any, project: Any, tags: Any) -> None:
        self._wish = (name, id, project, tags)

    def __enter__(self) -> Run:
        try:
            _post(_Client.enter, self._wish)
        except BaseException:  # Ctrl-C in here: the block is not entered, and never left
            _post(_Client.leave)
            raise
        return self

    def __exit__(self, *_raised: object) -> None:
        _post(_Client.leave)

    def __call__(self, function: F) -> F:
        try:
            return _wrapped(self, function)  # type: ignore[no-any-return]
        except Exception as error:
            _ignore(error)
            return function


class Phase:
    """What `trainwatt.phase` returns."""

    def __init__(self, before: str) -> None:
        self._before = before

    def __enter__(self) -> Phase:
        return self

    def __exit__(self, *_raised: object) -> None:
        _post(_Client.enter_phase, self._before)


def _wrapped(whole: Run, function: Any) -> Any:
    """The function as a run of its own, of the same kind as it was. Raises TypeError."""
    import functools
    import inspect

    if not callable(function):
        raise TypeError("run() decorates functions, got " + type(function).__name__)
    wrapper: Any
    if inspect.isasyncgenfunction(function):

        async def steps(*args: Any, **kwargs: Any) -> Any:
            with whole:
                inner = function(*args, **kwargs)
                try:
                    item = await inner.__anext__()
                    while True:
                        try:
                            sent = yield item
                        except GeneratorExit:
                            await inner.aclose()
                            raise
                        except BaseException as error:
                            item = await inner.athrow(error)
                        else:
                            item = await inner.asend(sent)
                except StopAsyncIteration:
                    return

        wrapper = steps
    elif inspect.iscoroutinefunction(function):

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with whole:
                return await function(*args, **kwargs)

        wrapper = awaited
    elif inspect.isgeneratorfunction(function):

        def items(*args: Any, **kwargs: Any) -> Any:
            with whole:
                return (yield from function(*args, **kwargs))

        wrapper = items
    else:

        def called(*args: Any, **kwargs: Any) -> Any:
            with whole:
                return function(*args, **kwargs)

        wrapper = called
    return functools.wraps(function)(wrapper)


def _post(*item: Any) -> None:
    """Have this done now, or by whoever is at it."""
    try:
        client = _client
        client.inbox.append(item)
        client.urgent = True
        client.pump()
    except Exception as error:
        _ignore(error)


def _ignore(error: BaseException) -> None:
    client = _client
    client.ignored += 1
    client.problem = str(error)[:_LONGEST_PROBLEM]


# -- arguments ---------------------------------------------------------------------------------------------------------


def _amount(value: Any) -> float:
    """A number as JSON has it. Raises TypeError, ValueError.

    Numbers of numpy are numbers; tensors are not: to read one may mean to wait for a GPU.
    """
    if not isinstance(value, (int, float)):
        from numbers import Integral, Real

        if not isinstance(value, Real):
            raise TypeError("a number is wanted, got " + type(value).__name__)
        value = int(value) if isinstance(value, Integral) else float(value)
    value = int(value) if isinstance(value, int) else float(value)
    if not 0 <= value <= _LARGEST:
        raise ValueError(_BOUNDS)
    return value  # type: ignore[no-any-return]


def _positive(value: Any) -> float:
    amount = _amount(value)
    if amount == 0:
        raise ValueError("a number above 0 is wanted")
    return amount


def _whole(value: Any) -> int:
    amount = _amount(value)
    if amount != int(amount):
        raise ValueError("a whole number is wanted")
    return int(amount)


def _text(value: Any, longest: int) -> str | None:
    """A text that is UTF-8. Raises TypeError."""
    if value is None:
        return None
    if isinstance(value, (int, float)):
        value = str(value)
    if not isinstance(value, str):
        raise TypeError("a text is wanted, got " + type(value).__name__)
    # What is no UTF-8 becomes U+FFFD, by which the daemon knows that the name was altered.
    return value[:longest].encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _line(request: Mapping[str, Any]) -> bytes:
    import json

    return json.dumps(request, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8") + b"\n"


# -- who the run is: the rules of monitor/runs/identity.py -------------------------------------------------------------


def _given_id() -> str | None:
    """The scheduler's or launcher's id of the run."""
    array, task = _variable("SLURM_ARRAY_JOB_ID"), _variable("SLURM_ARRAY_TASK_ID")
    job = array + "_" + task if array and task else _variable("SLURM_JOB_ID")
    if job:
        return "slurm-" + (_variable("SLURM_CLUSTER_NAME") or "cluster") + "-" + job
    rendezvous = _variable("TORCHELASTIC_RUN_ID")
    return "torchrun-" + rendezvous if rendezvous and rendezvous.lower() != "none" else None


def _tree_id() -> str | None:
    """The id of this process, or of the agent above a worker; None where a process has other numbers outside."""
    try:
        if os.readlink("/proc/self/ns/pid") != _FIRST_PID_NAMESPACE:
            return None
        stat = _stat("self")
        if "LOCAL_RANK" in os.environ:
            stat = _stat(stat[1])
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return "tree-{}-{}-{}".format(file.read(8), stat[0], stat[2])
    except (OSError, ValueError, IndexError):
        return None


def _stat(pid: str) -> tuple[str, str, str]:
    """Its number, its parent's, and its start in clock ticks since boot: proc_pid_stat(5), fields 1, 4 and 22."""
    with open("/proc/" + pid + "/stat", encoding="utf-8", errors="replace") as file:
        text = file.read()
    after = text[text.rindex(")") + 2 :].split()
    return text.split(" ", 1)[0], after[1], after[19]


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()


_NEW, _SAID, _KNOWN = "new", "said", "known"
"""How far the daemon knows of our part in a run."""


class _Part:
    """This process's part in one run: what it has to tell, and what it has told."""

    __slots__ = (
        "again_s", "changed", "done", "end_said", "id", "intro", "known", "left", "over", "ours", "phase",
        "phase_said", "samples", "steps", "tokens", "total",
    )  # fmt: skip

    def __init__(self, intro: bytes | None, run_id: str | None, *, ours: bool, before: _Part | None = None) -> None:
        self.intro = intro  # the request that makes us a member; None = somebody else is
        self.id = run_id
        self.ours = ours  # to be ended by us
        self.known = _KNOWN if intro is None else _NEW
        self.again_s = 0.0  # not introduced again before; 0 = never yet
        self.steps = self.tokens = self.samples = 0
        if before is not None:  # counts are those of the process: they go on when it comes back to a run
            self.steps, self.tokens, self.samples = before.steps, before.tokens, before.samples
        self.done: float | None = None
        self.total: float | None = None
        self.changed = False
        self.phase = ""
        self.phase_said: str | None = ""
        self.left = False
        self.end_said = False
        self.over = False

    def again(self) -> None:
        """Tell it all once more."""
        self.changed = True
        self.phase_said = None
        self.end_said = False

    def unsaid(self, kind: str) -> None:
        """A request may be lost: everything may be said twice."""
        if kind == "intro":
            if self.known == _SAID:
                self.known = _NEW
        elif kind == "progress":
            self.changed = True
        elif kind == "phase":
            self.phase_said = None
        else:
            self.end_said = False

    def counts(self) -> bytes:
        """The request that tells them."""
        request: dict[str, Any] = {"op": "progress", "run": self.id}
        for name in ("steps", "tokens", "samples"):
            if getattr(self, name):
                request[name] = min(getattr(self, name), _LARGEST)
        if self.total is not None:
            request["done"], request["total"] = self.done, self.total
        return _line(request)


class _Client:
    """All that this process tells its daemon.

    Whatever is called is queued, and carried out by whoever finds the lock free: nobody ever waits for it, a signal
    handler in the middle of it included. What has been told is kept beside what is so: each turn tells the difference,
    and what was lost on the way is told again.
    """

    def __init__(self) -> None:
        self.inbox: list[tuple[Any, ...]] = []
        self.urgent = self.news = False
        self.lock = allocate_lock()
        self.stuck_s: float | None = None
        self.due_s = 0.0
        self.part: _Part | None = None
        self.depth = 0
        self.phase = self.phase_around = ""
        self.leaving: list[_Part] = []
        self.met: dict[str, _Part] = {}
        self.trees = 0
        self.tree: str | None = None
        self.wire = _Wire(self.hear)
        self.refused = self.ignored = 0
        self.problem: str | None = None
        self.hooked = self.dead = False

    # -- the turn ------------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Do what is to be done, unless somebody is at it: who then does it after his own.

        Not without end: signals that strike in each turn, and threads that call all the time, would keep him for ever.
        What is left then is the next caller's.
        """
        for _turn in range(_TURNS):
            lock = self.lock
            if not lock.acquire(False):
                now = monotonic()
                if self.stuck_s is None:
                    self.stuck_s = now
                elif now - self.stuck_s > _STUCK_S:
                    self.lock, self.stuck_s = allocate_lock(), None
                    continue
                return
            try:
                self.stuck_s = None
                self.work()
            finally:
                lock.release()
            if not self.urgent:
                return

    def work(self) -> None:
        """One turn, under the lock."""
        now, self.urgent = monotonic(), False
        if not self.hooked:
            self.hook()
        if self.part is None:
            self.find()
        done = 0
        try:
            for item in self.inbox[:]:
                done += 1
                try:
                    item[0](self, *item[1:])
                except Exception as error:
                    _ignore(error)
        finally:
            del self.inbox[:done]  # what others append comes behind these
        if self.news or now >= self.due_s:
            self.news, self.due_s = False, now + _EVERY_S
            self.tell(now)

    def hook(self) -> None:
        """At the first use, for an import touches nothing."""
        self.hooked = True
        global _hooked
        if not _hooked:
            _hooked = True
            import atexit

            atexit.register(_at_exit)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_forked)
        parent_process = getattr(sys.modules.get("multiprocessing"), "parent_process", None)
        if parent_process is not None and parent_process() is not None:
            from multiprocessing.util import Finalize

            Finalize(None, _at_exit, exitpriority=0)  # a forked worker ends by os._exit(), after these

    def find(self) -> None:
        """Join the run that `trainwatt run` has started."""
        given = _text(_variable("TRAINWATT_RUN"), _LONGEST_NAME)
        if given:
            self.part = _Part(_line({"op": "join", "run": given}), given, ours=False)

    # -- what is queued ------------------------------------------------------------------------------------------------

    def rest(self) -> None:
        """Nothing, after all that was queued before."""

    def count(self, steps: int, tokens: int, samples: int) -> None:
        if min(steps, tokens, samples) < 0 or max(steps, tokens, samples) > _LARGEST:
            raise ValueError(_BOUNDS)
        part = self.part
        if part is not None:
            part.steps += steps
            part.tokens += tokens
            part.samples += samples
            part.changed = True

    def advance(self, done: float, total: float) -> None:
        if self.part is not None:
            self.part.done, self.part.total, self.part.changed = done, total, True

    def enter_phase(self, name: str) -> None:
        self.phase = name
        if self.part is not None and self.part.phase != name:
            self.part.phase, self.news = name, True

    def enter(self, wish: tuple[Any, Any, Any, Any]) -> None:
        self.depth += 1
        if self.part is None:
            self.part = self.begin(wish)
            self.phase, self.news = "", True
        if self.depth == 1:
            self.phase_around = self.phase

    def leave(self) -> None:
        part = self.part
        if self.depth:
            self.depth -= 1
            if self.depth or part is None:
                return
            if part.ours:
                self.part_with(part)
            else:
                self.enter_phase(self.phase_around)

    def part_with(self, part: _Part) -> None:
        if not part.again_s:
            self.tell(monotonic())  # entered and left in one turn
        part.left, self.part, self.phase, self.news = True, None, "", True
        if part.again_s:
            self.leaving = [*self.leaving, part][-_MOST_PARTS:]
        else:
            self.wire.dropped += 1

    def begin(self, wish: tuple[Any, Any, Any, Any]) -> _Part:
        """A run of our own."""
        request: dict[str, Any] = {"op": "start"}
        for key, value in zip(("name", "id", "project"), wish):
            try:
                text = _text(value, _LONGEST_NAME)
            except TypeError as error:
                _ignore(error)
            else:
                if text:
                    request[key] = text
        run_id = request.get("id") or _text(_given_id(), _LONGEST_NAME) or self.next_tree()
        if run_id:
            request["id"] = run_id
        names = [name for name in _TOLD if name in os.environ]
        request["environment"] = {name: _text(os.environ[name], _LONGEST_NAME) for name in names}
        try:
            tags = dict(wish[3] or {})
            request["tags"] = {
                _text(key, _LONGEST_TAG): _text(tags[key], _LONGEST_TAG) or "" for key in list(tags)[:_MOST_TAGS]
            }
            if len(_line(request)) > _LONGEST_LINE_BYTES:
                raise ValueError("the tags are too long")
        except Exception as error:  # a mapping of the job's own may raise anything
            request.pop("tags", None)
            _ignore(error)
        part = _Part(_line(request), run_id, ours=True, before=self.met.get(run_id or ""))
        if run_id:
            self.met.pop(run_id, None)
            self.met[run_id] = part
            if len(self.met) > _MOST_PARTS:
                del self.met[next(iter(self.met))]
        return part

    def next_tree(self) -> str | None:
        """The id of this process; with a number for the second run in it, and those after that."""
        if self.tree is None:
            self.tree = _tree_id()
        self.trees += 1
        return self.tree if self.tree is None or self.trees == 1 else self.tree + "-" + str(self.trees)

    # -- with the daemon -----------------------------------------------------------------------------------------------

    def tell(self, now: float) -> None:
        """Say what it does not know, as far as there is room."""
        wire = self.wire
        parts = self.leaving if self.part is None else [*self.leaving, self.part]
        if self.dead or not parts:
            return
        for _attempt in (1, 2):  # a connection that was silent for long is a dropped one
            try:
                if wire.sock is not None or wire.connect(now):
                    wire.listen(now)
                    all(self.speak(part, now) for part in parts)
                break
            except _GoneError:
                continue
            except BaseException:
                wire.hang_up()  # what was sent, and what was noted of it, may differ
                raise
        self.leaving = [part for part in self.leaving if not part.over]
        if not self.leaving and self.part is None:
            wire.hang_up()

    def speak(self, part: _Part, now: float) -> bool:
        """Of one run; False = there is no room for more."""
        say = self.wire.say
        if part.known == _NEW and not part.left:
            before_s = part.again_s
            if now < before_s:
                return True
            part.known, part.again_s = _SAID, now + _RETRY_S
            if part.intro is None:
                part.known = _KNOWN
            elif not say(part.intro, "intro", part, now):
                part.known, part.again_s = _NEW, before_s
                return False
        if part.id is None or part.over:
            return True
        if part.changed:
            part.changed = False
            if not say(part.counts(), "progress", part, now):
                part.changed = True
                return False
        if part.phase != part.phase_said:
            said, part.phase_said = part.phase_said, part.phase
            if not say(_line({"op": "phase", "run": part.id, "phase": part.phase}), "phase", part, now):
                part.phase_said = said
                return False
        if part.left and not part.end_said:
            part.end_said = True
            if not say(_line({"op": "end", "run": part.id}), "end", part, now):
                part.end_said = False
                return False
        return True

    def hear(self, owed: _Owed, answer: dict[str, Any], now: float) -> None:
        """An answer."""
        part = owed.part
        if answer["ok"] is True:
            if owed.kind == "end":
                part.over = part.over or owed.run == part.id
            elif owed.kind == "intro":
                self.introduced(part, answer.get("run"))
            return
        self.refused += 1
        self.problem = str(answer.get("error"))[:_LONGEST_PROBLEM]
        if owed.kind == "intro":
            part.known, part.over = _NEW, part.left
            part.again()
        elif owed.kind == "end":
            part.over = part.over or owed.run == part.id
        elif owed.run == part.id and part.known == _KNOWN:  # a daemon that has forgotten us
            part.known = _NEW
            part.again()
            if part.intro is None:
                part.again_s = now + _RETRY_S

    def introduced(self, part: _Part, run_id: object) -> None:
        """The daemon may know the run by another id: ours is another user's, or too long."""
        part.known = _KNOWN
        if isinstance(run_id, str) and run_id and run_id != part.id:
            if part.id is not None:
                part.again()
            elif self.trees == 1:
                self.tree = run_id
            part.id = run_id

    # -- the end -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Tell the rest, and wait a little for it to be taken."""
        if self.dead:
            return
        gone_s = monotonic() + _EXIT_S
        lock = self.lock
        locked = lock.acquire(True, _EXIT_S)
        try:
            if locked:
                self.news = True
                self.work()
                if self.part is not None and self.part.ours:
                    self.part_with(self.part)
                    self.tell(monotonic())
                self.wait(gone_s)
        finally:
            self.dead = True
            self.wire.hang_up()
            if locked:
                lock.release()

    def wait(self, gone_s: float) -> None:
        """Until all is answered but ends, which take a reading: the daemon learns of ours from the kernel, too."""
        wire = self.wire
        now = monotonic()
        while wire.sock is not None and any(owed.kind != "end" for owed in wire.owed):
            if now >= gone_s or now - wire.owed[0].at_s > _HUNG_S:
                return
            import select

            poll = select.poll()
            poll.register(wire.sock, select.POLLIN)
            poll.poll((gone_s - now) * 1000)
            now = monotonic()
            self.tell(now)


class _GoneError(Exception):
    """The daemon has hung up, or we have."""


class _Owed:
    """A request that is not answered yet."""

    __slots__ = ("at_s", "kind", "part", "run")

    def __init__(self, kind: str, part: _Part, at_s: float) -> None:
        self.kind = kind
        self.part = part
        self.run = part.id
        self.at_s = at_s


class _Wire:
    """The connection. Nothing here waits."""

    def __init__(self, hear: Callable[[_Owed, dict[str, Any], float], None]) -> None:
        self.hear = hear
        self.sock: socket.socket | None = None
        self.inode: tuple[int, int] | None = None
        self.next_s = 0.0
        self.owed: list[_Owed] = []
        self.unsent = b""
        self.partial = b""
        self.cut = False
        self.answers = self.sent = self.dropped = 0

    def connect(self, now: float) -> bool:
        """To the first daemon that is there, at most every ten seconds."""
        if now < self.next_s:
            return False
        self.next_s = now + _RETRY_S
        import socket

        if not hasattr(socket, "SO_PEERCRED"):
            return False
        for path, named in _paths():
            sock = None
            try:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                sock.setblocking(False)
                sock.connect(path)
                if named or _is_trusted(sock):
                    at = os.fstat(sock.fileno())
                    self.sock, self.inode, self.answers = sock, (at.st_dev, at.st_ino), 0
                    return True
            except (OSError, ValueError):
                pass
            finally:
                if sock is not None and self.sock is not sock:
                    sock.close()
        return False

    def say(self, line: bytes, kind: str, part: _Part, now: float) -> bool:
        """Send one request; False = there is no room for it."""
        if len(self.owed) < _MOST_OWED and self.flush():
            self.owed.append(_Owed(kind, part, now))
            size = self.send(line)
            if size:
                self.unsent = line[size:]
                self.sent += 1
                return True
            self.owed.pop()
        self.dropped += 1
        return False

    def flush(self) -> bool:
        """Send what is left of a request that was cut; whether nothing is left."""
        if self.unsent:
            self.unsent = self.unsent[self.send(self.unsent) :]
        return not self.unsent

    def send(self, data: bytes) -> int:
        import socket

        assert self.sock is not None
        try:
            return self.sock.send(data, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError:
            self.lose()

    def listen(self, now: float) -> None:
        """Take what has been answered."""
        assert self.sock is not None
        if not self.is_mine(self.sock):
            self.lose(wait=False)
        if self.owed and now - self.owed[0].at_s > _STALE_S:
            self.lose(wait=True)
        for _chunk in range(_RECVS):
            try:
                data = self.sock.recv(_RECV_BYTES)
            except BlockingIOError:
                return
            except OSError:
                self.lose()
            if not data:
                self.lose()
            self.take(data, now)
            if len(data) < _RECV_BYTES:
                return

    def take(self, data: bytes, now: float) -> None:
        *lines, rest = (self.partial + data).split(b"\n")
        for line in lines:
            if not self.owed:
                self.lose(wait=True)  # an answer to nothing
            owed = self.owed.pop(0)
            answer = {"ok": True} if self.cut or line == b'{"ok":true}' else _answer(line)
            self.cut = False
            if answer is None:
                self.owed.insert(0, owed)
                self.lose(wait=True)
            self.answers += 1
            self.hear(owed, answer, now)
        self.cut = self.cut or len(rest) > _RECV_BYTES  # a long report: what is in it is not for us
        self.partial = b"" if self.cut else rest

    def is_mine(self, sock: socket.socket) -> bool:
        """Whether the descriptor is ours still: a job may close all that are open, and open others."""
        try:
            at = os.fstat(sock.fileno())
        except OSError:
            return False
        return (at.st_dev, at.st_ino) == self.inode

    def lose(self, *, wait: bool | None = None) -> NoReturn:
        """Give the connection up. Raises _GoneError."""
        self.hang_up(wait=not self.answers if wait is None else wait)
        raise _GoneError

    def hang_up(self, *, wait: bool = False) -> None:
        """Close, and `wait` before the next try, as after a daemon that never answered."""
        sock = self.sock
        if sock is None:
            return
        for owed in self.owed:
            owed.part.unsaid(owed.kind)
        self.owed, self.unsent, self.partial, self.cut = [], b"", b"", False
        self.next_s = monotonic() + _RETRY_S if wait else 0.0
        if not self.is_mine(sock):
            sock.detach()
        sock.close()
        self.sock = None


def _answer(line: bytes) -> dict[str, Any] | None:
    """What a line says; None = nothing that a daemon says."""
    import json

    try:
        answer = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) and isinstance(answer.get("ok"), bool) else None


def _paths() -> list[tuple[str, bool]]:
    """Where a daemon may be, as monitor/runs/protocol.py has it, and whether somebody named it to us."""
    named = os.environ.get("TRAINWATT_SOCKET")
    if named:
        return [(named, True)]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isdir(runtime):
        return [(_SYSTEM_PATH, False), (runtime + "/trainwatt/socket", False)]
    named_tmp = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
    tmp = next((path for path in named_tmp if path and os.path.isdir(path)), "/tmp")
    return [(_SYSTEM_PATH, False), ("{}/trainwatt-{}/socket".format(tmp, os.geteuid()), False)]


def _is_trusted(sock: socket.socket) -> bool:
    """Whether it is root's or our own: in a directory for everybody anybody may listen. unix(7), SO_PEERCRED."""
    import socket
    import struct

    peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
    return struct.unpack("iII", peer)[1] in (0, os.geteuid())


def _at_exit() -> None:
    try:
        _client.close()
    except BaseException:  # the job has ended, and well; Ctrl-C at this moment included
        pass


def _forked() -> None:
    """In a forked child: another process, with another connection and counts of its own."""
    global _client
    parent, _client = _client, _Client()
    parent.dead = True
    parent.wire.hang_up()  # this copy of the descriptor only
    if parent.part is not None and parent.part.ours and parent.part.id is not None:
        _client.part = _Part(None, parent.part.id, ours=False)


_hooked = False
_client = _Client()


# -- the command -------------------------------------------------------------------------------------------------------


def main():
    # type: () -> None
    """Run the `trainwatt` command.

    The folders of the tool have generic names (`monitor`), and so have users' own files: PYTHONPATH and the current
    directory are taken off the path first, so that theirs never shadow ours. The environment itself stays as it is,
    for the sake of the child of `trainwatt run`.
    """
    theirs = {os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry}
    home = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if entry and (entry == home or os.path.abspath(entry) not in theirs)]
    from monitor.cli import main as run

    run()
