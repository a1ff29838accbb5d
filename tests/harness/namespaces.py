"""Several nodes on one machine: network namespaces that see each other over a bridge, and nothing else."""

import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness import need

INTERFACE = "node0"
"""Each node's end of its cable."""
NET = "10.213.77"
"""Nobody outside of the namespaces sees it, so it may be in use there."""
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_NAMED = Path("/run/netns")


@dataclass(frozen=True, slots=True)
class Host:
    """One of the nodes: a network and a host name, and the processes and files of the machine."""

    name: str
    address: str
    namespace: str

    def words(self, *command: str) -> list[str]:
        """A command as it is run there, in a process that becomes it."""
        named = 'echo "$1" >/proc/sys/kernel/hostname && shift && exec "$@"'
        into = ["nsenter", f"--net={_NAMED / self.namespace}", "--", "unshare", "--uts", "--"]
        return [*into, "sh", "-c", named, "sh", self.name, *command]


@dataclass(frozen=True, slots=True)
class Network:
    """The nodes, and the switch between them: a namespace that reaches them all."""

    hosts: Sequence[Host]
    switch: str

    @contextmanager
    def at_the_switch(self) -> Iterator[None]:
        """Put this thread, and what it starts, there until left: its loopback is another than everybody's."""
        libc = ctypes.CDLL(None, use_errno=True)
        with (
            Path(f"/proc/self/task/{threading.get_native_id()}/ns/net").open("rb") as home,
            (_NAMED / self.switch).open("rb") as there,
        ):
            _enter(libc, there.fileno())
            try:
                yield
            finally:
                _enter(libc, home.fileno())


@contextmanager
def network(names: Sequence[str]) -> Iterator[Network]:
    """Nodes of these names until left, when whatever runs there must have ended.

    Skips (fails in CI) where that cannot be made.
    """
    if os.geteuid() != 0:
        need.missing("a network of namespaces (it takes root)")
    for program in ("ip", "nsenter", "unshare"):
        need.program(program)
    own = f"tw{os.getpid()}"
    hosts = [Host(name, f"{NET}.{number + 2}", f"{own}-{number}") for number, name in enumerate(names)]
    switch = f"{own}-switch"
    with ExitStack() as stack:
        for namespace in (switch, *(host.namespace for host in hosts)):
            if subprocess.run(["ip", "netns", "add", namespace], capture_output=True, check=False).returncode:
                need.missing("a kernel that lets us make network namespaces")
            # With the namespace its interfaces go, and with them their peers.
            stack.callback(_ip, "netns", "del", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", switch, "link", "add", "bridge0", "type", "bridge")
        _ip("-n", switch, "address", "add", f"{NET}.1/24", "dev", "bridge0")
        _ip("-n", switch, "link", "set", "bridge0", "up")
        for number, host in enumerate(hosts):
            port = f"port{number}"
            peer = ["peer", "name", INTERFACE, "netns", host.namespace]
            _ip("-n", switch, "link", "add", port, "type", "veth", *peer)
            _ip("-n", switch, "link", "set", port, "master", "bridge0", "up")
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", INTERFACE)
            _ip("-n", host.namespace, "link", "set", INTERFACE, "up")
        yield Network(hosts, switch)


def _enter(libc: ctypes.CDLL, file: int) -> None:
    if libc.setns(file, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
