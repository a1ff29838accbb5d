"""The processes of a node over time: who descends from whom, which run each is of, and what CPU time each run took.

CPU time is counted from what the kernel keeps of each process: its own time, and that of the children it has waited
for. A run gets the growth of both over its living processes. What a process had been counted for turns up again with
whoever reaps it, and is taken off there. So all that ends between two looks counts, and counts once. Not counted is
what nobody reaps within the run: the last seconds of an orphan, of a child of who ignores SIGCHLD, and of the root.

The kernel adds a child's time to its parent's before the child vanishes. Parents are read before their children, so a
child that is still there has not yet been added to what was read of its parent.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

from monitor.runs.identity import Process
from monitor.runs.procfs import ProcessFiles, Stat, parse_stat

ROTATION = 12
"""In as many looks every process is read again, whoever it belongs to: a minute at a look each 5 s."""
_YOUNG_LOOKS = 12
"""So long a process is read at each look for an examination that may never come."""


class _Node:
    """A process, linked to the one that it came from for as long as that one, or one above it, lives."""

    __slots__ = (
        *("above", "anchor", "first", "free", "grown", "is_dead", "is_timed", "line", "process", "read", "root"),
        *("run", "stat"),
    )

    def __init__(self, stat: Stat, above: "_Node | None", look: int) -> None:
        self.stat = stat
        self.process = stat.process
        self.line = b""
        """What the kernel said when it was last read again."""
        self.above = above
        """The nearest living process that it descends from, also where the kernel knows nothing of it any more."""
        self.root: str | None = None
        """The run that begins with it."""
        self.anchor: str | None = None
        """The run of the process that it descended from, and that is dead."""
        self.run: str | None = None
        self.is_timed = False
        """Whether its CPU time is needed: by its run, or by one further up, where it turns up when it is reaped."""
        self.is_dead = False
        self.first = self.free = self.read = look
        """The looks in which it was first seen, in which it came to be of no run, and in which it was last read."""
        self.grown = 0
        """Growth of its reaped time in this look, less what had been counted before."""


class _Debt:
    """Counted time of a process that died, to be taken off from the growth of whoever has reaped it."""

    __slots__ = ("is_certain", "is_orphan", "node", "ticks")

    def __init__(self, node: _Node | None, ticks: int, *, is_certain: bool) -> None:
        self.node = node
        """Its parent; None where that is out of our sight."""
        self.ticks = ticks
        self.is_certain = is_certain
        """It had vanished before its reaper was read: else it may turn up only in the next look."""
        self.is_orphan = False
        """Its own parent had ended, too, before it or after: any process further up may have reaped it."""


class Forest:
    """The processes of a node over time. Not safe to share among threads: one owns it."""

    def __init__(self, files: ProcessFiles) -> None:
        self._files = files
        self._look = 0
        self._examined = (0, 0, 0)
        """The last three looks whose new processes were examined; those at the edges of runs are not."""
        self._assigned = self._assigned_before = 0
        """The looks that `assign` last came after, and the same before the present look."""
        self._nodes: dict[int, _Node] = {}
        """The living, parents before their children."""
        self._fresh: list[_Node] = []
        """Those first seen since `assign` was called after a look."""
        self._hidden: set[int] = set()
        """Listed, but not to be read."""
        self._dead: tuple[dict[int, _Node], ...] = ({}, {})
        """Those that died before this look, and before the last one."""
        self._timed: list[_Node] = []
        """Those that are read in each whole look."""
        self._late: list[_Debt] = []
        """Debts that may turn up in this look only."""
        self._alone: frozenset[str] = frozenset()
        self._is_stale = True
        """Whether every process has to be assigned anew."""
        self._ticks: defaultdict[str, int] = defaultdict(int)
        self._adopted: dict[str, float] = {}
        self._released: dict[str, int] = {}
        """Runs and the looks after which they were released, as long as some of their dead are remembered."""
        self._by_run: dict[str, list[_Node]] | None = None
        self._processes: dict[str, Sequence[Process]] = {}
        self._owners: Mapping[int, str] | None = None
        """The three are made when they are asked for, and given up by `_regroup`."""

    @property
    def timed(self) -> int:
        """How many processes a whole look reads."""
        return len(self._timed)

    def look(self, *, whole: bool = True) -> bool:
        """See what there is; whether the CPU times are those of now. Raises OSError where there is no /proc.

        A look that need not be `whole` leaves the times of whom it knows as they were, unless one of them has died or
        has lost its parent: who has reaped what is told by times of before and after.
        """
        listed = self._files.pids()
        if self._assigned == self._look:
            self._fresh = []
        self._look += 1
        self._assigned_before = self._assigned
        self._regroup()
        self._released = {
            run_id: look for run_id, look in self._released.items() if look > self._look - len(self._dead)
        }
        present = set(listed)
        gone = {pid: self._nodes[pid] for pid in self._nodes.keys() - present}
        whole = whole or any(node.stat.pid in gone or node.stat.ppid in gone for node in self._timed)
        vanished: dict[int, _Node] = {}
        for node in self._timed if whole else ():
            if node.stat.pid not in gone and not self._read(node):
                vanished[node.stat.pid] = node
        for node in self._to_read_again(gone):
            if node.read != self._look and (whole or not node.is_timed) and not self._read(node):
                vanished[node.stat.pid] = node
        for pid in (*gone, *vanished):
            self._nodes.pop(pid).is_dead = True
        self._dead = (gone | vanished, self._dead[0])
        if whole:
            self._account(vanished)
        self._add(listed, present)
        self._relink()
        return whole

    def complete(self) -> None:
        """Make a look whole that was not: after this the CPU times are those of now."""
        vanished = {node.stat.pid: node for node in self._timed if not self._read(node)}
        for pid in vanished:
            self._nodes.pop(pid).is_dead = True
        self._dead = (self._dead[0] | vanished, self._dead[1])
        self._account(vanished)
        self._relink()
        self._regroup()

    def assign(self, roots: Mapping[Process, str], alone: frozenset[str] = frozenset()) -> None:
        """Tell which process begins which run: each belongs to the run of the nearest one at or above it.

        What was told once holds until the run is released: so a run that is no longer in `roots` keeps its processes.
        Before `roots` told of it, its processes' CPU time is not the run's, but for those that began after the last
        look. `alone`: runs whose CPU time is told by someone else, and not counted here.
        """
        for process, run_id in roots.items():
            node = self._nodes.get(process.pid)
            if node is not None and node.stat.start_ticks == process.start_ticks and node.root != run_id:
                node.root = run_id
                self._is_stale = True
        is_stale = self._is_stale or alone != self._alone
        self._alone = alone
        fresh = [node for node in self._fresh if not node.is_dead]
        self._settle(self._nodes.values() if is_stale else fresh)
        orphans = [node for node in fresh if node.run is None and self._anchored(node)]
        if orphans:
            self._settle(fresh)
        if is_stale or fresh:
            self._timed = [node for node in self._nodes.values() if node.is_timed]
            self._regroup()
        self._is_stale = False
        self._assigned = self._look

    def release(self, run_id: str) -> None:
        """Forget a run: what its processes take from here on is not its; they are of no run, until assigned anew."""
        for node in self._nodes.values():
            if run_id in (node.root, node.anchor, node.run):
                node.root = None if node.root == run_id else node.root
                node.anchor = None if node.anchor == run_id else node.anchor
                if node.run == run_id:
                    node.run, node.is_timed, node.first, node.free = None, False, 0, self._look
                self._is_stale = True
        self._timed = [node for node in self._timed if node.is_timed]
        self._adopted.pop(run_id, None)
        self._released[run_id] = self._look
        self._regroup()

    def line(self, pid: int) -> tuple[Stat, ...]:
        """A process as it is now, and those above it, up to the first; () where it has ended or cannot be seen."""
        found: dict[int, Stat] = {}
        stat = self._files.stat(pid)
        while stat is not None and stat.pid not in found:
            found[stat.pid] = stat
            node = self._nodes.get(stat.ppid)
            stat = self._files.stat(stat.ppid) if node is None else node.stat
        return tuple(found.values())

    def unassigned(self) -> Sequence[Stat]:
        """Processes of no run, to be examined: each in two looks, since it is first seen or came to be of none.

        Twice, for one that is seen between fork and exec has its parent's environment and name.
        """
        if self._examined[-1] != self._look:
            self._examined = (*self._examined[1:], self._look)
        since = self._examined[0]
        return [
            node.stat
            for node in self._nodes.values()
            if node.run is None and node.free > since and not node.stat.is_kernel and not node.stat.has_ended
        ]

    def owners(self) -> Mapping[int, str]:
        """Run of each process number that has one, also of those that died before this look or before the last one."""
        if self._owners is not None:
            return self._owners
        owners = {pid: node.run for dead in reversed(self._dead) for pid, node in dead.items() if node.run is not None}
        for pid, node in self._nodes.items():
            if node.run is not None:
                owners[pid] = node.run
            else:
                owners.pop(pid, None)  # another process has got the number
        self._owners = owners
        return owners

    def processes(self, run_id: str) -> Sequence[Process]:
        """Those of a run that live, the oldest first."""
        known = self._processes.get(run_id)
        if known is None:
            known = self._processes[run_id] = [node.process for node in self._of(run_id) if not node.stat.has_ended]
        return known

    def containing(self) -> Mapping[str, frozenset[str]]:
        """Runs in which other runs lie, with these: what is theirs is not the outer one's."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for node in self._nodes.values():
            if node.root is None or node.run is None or node.above is None:
                continue
            outer = node.above.run
            if outer is not None and outer != node.run:
                found[outer].add(node.run)
        return {outer: frozenset(inner) for outer, inner in found.items()}

    def start_s(self, pid: int) -> float | None:
        """Start of a process of this number (steady clock), also of one that died lately; None = it is not known."""
        node = self._nodes.get(pid) or self._dead[0].get(pid) or self._dead[1].get(pid)
        return None if node is None else node.stat.start_ticks / self._files.ticks_per_s

    def take_cpu_s(self) -> dict[str, float]:
        """CPU time of each run since the last take, as of the last look; those in `alone` are left out."""
        taken = {run_id: self._ticks.pop(run_id, 0) / self._files.ticks_per_s for run_id in self._living()}
        taken |= {run_id: ticks / self._files.ticks_per_s for run_id, ticks in self._ticks.items()}
        self._ticks.clear()
        for run_id in [run_id for run_id in self._adopted if run_id in taken]:
            taken[run_id] = max(0.0, self.raw_cpu_s(run_id) - self._adopted.pop(run_id))
        return {run_id: cpu_s for run_id, cpu_s in taken.items() if run_id not in self._alone}

    def raw_cpu_s(self, run_id: str) -> float:
        """CPU time of a run's living processes and of those that they have reaped: for `adopt_cpu_s`."""
        return sum(n.stat.own_ticks + n.stat.reaped_ticks for n in self._of(run_id)) / self._files.ticks_per_s

    def adopt_cpu_s(self, run_id: str, raw_s: float) -> None:
        """Go on after a restart: the run's next take is what there is beyond `raw_s`, an earlier `raw_cpu_s`."""
        self._adopted[run_id] = raw_s

    def _to_read_again(self, gone: Mapping[int, _Node]) -> Iterator[_Node]:
        """Those that are in no hurry: in rotation; once more before the second examination; orphans."""
        turn, since = self._look % ROTATION, max(self._examined[1], self._look - _YOUNG_LOOKS)
        for pid, node in self._nodes.items():
            is_due = pid % ROTATION == turn or (since < node.first < self._look and not node.stat.is_kernel)
            is_orphan = node.stat.ppid in gone or node.stat.ppid in self._dead[0]
            if (is_due or is_orphan) and pid not in gone:
                yield node

    def _read(self, node: _Node) -> bool:
        """Read a process again, and count what it took; False where it is no more."""
        last = node.stat
        if not self._refresh(node):
            return False
        stat = node.stat
        if node.is_timed and stat is not last:
            node.grown = max(0, stat.reaped_ticks - last.reaped_ticks)
            self._count(node, max(0, stat.own_ticks - last.own_ticks))
        return True

    def _refresh(self, node: _Node) -> bool:
        """What the kernel says of a process now; False where it is no more."""
        line = self._files.stat_line(node.stat.pid)
        if line is None:
            return False
        if line != node.line:  # most of many processes sleep
            stat = parse_stat(line)
            if stat is None or stat.start_ticks != node.stat.start_ticks:
                return False
            node.stat, node.line = stat, line
        node.read = self._look
        return True

    def _count(self, node: _Node, ticks: int) -> None:
        if ticks and node.run is not None and node.run not in self._alone:
            self._ticks[node.run] += ticks

    def _account(self, vanished: Mapping[int, _Node]) -> None:
        """Take off what had been counted of the dead where they were reaped; the rest of what was reaped is new."""
        debts, self._late = self._late, []
        for node in self._dead[0].values():
            if node.is_timed:
                ticks = node.stat.own_ticks + node.stat.reaped_ticks
                debts.append(_Debt(self._parent(node), ticks, is_certain=node.stat.pid not in vanished))
        for debt in debts:
            self._find_reaper(debt, vanished)
        # First what must be found now, then what may wait; of each first what can be found in one place only.
        debts.sort(key=lambda debt: (not debt.is_certain, debt.is_orphan))
        for debt in debts:
            self._pay(debt)
        if self._dead[0]:
            self._timed = [node for node in self._timed if not node.is_dead]
        for node in self._timed:
            if node.grown:
                self._count(node, node.grown)
                node.grown = 0

    def _find_reaper(self, debt: _Debt, vanished: Mapping[int, _Node]) -> None:
        """The nearest one above that lives."""
        for _ in self._dead[0]:
            if debt.node is None or not debt.node.is_dead:
                break
            debt.is_certain = debt.is_certain and debt.node.stat.pid not in vanished
            debt.is_orphan = True
            debt.node = self._parent(debt.node)
        debt.is_orphan = debt.is_orphan or (debt.node is not None and debt.node.stat.has_ended)

    def _pay(self, debt: _Debt) -> None:
        """A child is reaped by its parent or by nobody; an orphan perhaps by a subreaper further up."""
        heir = debt.node
        while heir is not None and heir.is_timed and debt.ticks:
            paid = min(heir.grown, debt.ticks)
            heir.grown -= paid
            debt.ticks -= paid
            heir = self._parent(heir) if debt.is_orphan else None
        if debt.ticks and not debt.is_certain and debt.node is not None:
            debt.is_certain = True
            self._late.append(debt)

    def _parent(self, node: _Node) -> _Node | None:
        """Whom the kernel named as its parent when it was last read, which may have died before this look."""
        return self._dead[0].get(node.stat.ppid) or self._nodes.get(node.stat.ppid)

    def _add(self, listed: Iterable[int], present: set[int]) -> None:
        """New processes, parents before their children, wherever the numbers began anew."""
        self._hidden &= present
        turn = self._look % ROTATION
        found = {}
        for pid in listed:
            if pid not in self._nodes and (pid not in self._hidden or pid % ROTATION == turn):
                stat = self._files.stat(pid)
                if stat is None:
                    self._hidden.add(pid)
                else:
                    self._hidden.discard(pid)
                    found[pid] = stat
        while found:
            pid = next(iter(found))
            branch = []
            while pid in found:
                branch.append(found.pop(pid))
                pid = branch[-1].ppid
            for stat in reversed(branch):
                # Its parent lives: the kernel gives a child another one before the old one vanishes.
                self._nodes[stat.pid] = node = _Node(stat, self._nodes.get(stat.ppid), self._look)
                self._fresh.append(node)

    def _relink(self) -> None:
        """Whoever descends from the dead descends from the living above them, and stays in the run of the dead."""
        if not self._dead[0]:
            return
        for node in self._nodes.values():
            while node.above is not None and node.above.is_dead:
                node.anchor = node.anchor or node.above.root or node.above.anchor
                node.above = node.above.above

    def _anchored(self, node: _Node) -> bool:
        """Whether an orphan first seen as such belongs to the run of who leads its process group or its session.

        A child is in the session of its parent, unless it leads one of its own: any other child is an adopted one.
        """
        stat, parent = node.stat, self._nodes.get(node.stat.ppid)
        if stat.session in (0, stat.pid) or (parent is not None and parent.stat.session == stat.session):
            return False
        # As long as a group or a session has members, no other process gets its number.
        for pid, among in product((stat.pgrp, stat.session), (self._nodes, *self._dead)):
            leader = among.get(pid)
            if leader is not None and leader.run is not None:
                if leader.is_dead and leader.run in self._released:
                    continue
                node.anchor = leader.run
                return True
        return False

    def _settle(self, nodes: Iterable[_Node]) -> None:
        """Assign each of them, after those above it."""
        for node in nodes:
            above = node.above
            run_id = node.root or node.anchor or (None if above is None else above.run)
            if run_id is None and node.run is not None:
                node.free = self._look
            node.run = run_id
            was_timed = node.is_timed
            node.is_timed = run_id is not None and (run_id not in self._alone or (above is not None and above.is_timed))
            if node.is_timed and not was_timed:
                self._begin(node)

    def _begin(self, node: _Node) -> None:
        """Count a process from here on; from its start where that was after the last look."""
        if node.first > max(1, self._assigned_before):
            self._count(node, node.stat.own_ticks + node.stat.reaped_ticks)
        else:
            self._refresh(node)

    def _regroup(self) -> None:
        """Who is in which run may have changed."""
        self._by_run = self._owners = None
        self._processes = {}

    def _of(self, run_id: str) -> list[_Node]:
        return self._living().get(run_id, [])

    def _living(self) -> dict[str, list[_Node]]:
        """The living by run."""
        if self._by_run is None:
            self._by_run = {}
            for node in self._nodes.values():
                if node.run is not None:
                    self._by_run.setdefault(node.run, []).append(node)
        return self._by_run
