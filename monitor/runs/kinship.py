"""Where a tree of processes begins that is one piece of work: below sessions, managers and interactive shells."""

from collections.abc import Sequence
from typing import Protocol

from monitor.runs.evidence import Evidence
from monitor.runs.identity import Process

MANAGERS = frozenset(
    {
        *("systemd", "(systemd)", "(sd-pam)", "init", "runit", "runsv", "runsvdir", "s6-supervise", "supervisord"),
        *("sshd", "sshd-session", "sshd-auth", "dropbear", "login", "getty", "agetty", "in.telnetd", "mosh-server"),
        *("su", "sudo", "doas", "runuser", "pkexec", "run0", "newgrp", "sg"),
        *("tmux", "tmux: server", "tmux: client", "screen", "SCREEN", "zellij", "dtach", "abduco", "script"),
        *("cron", "crond", "anacron", "fcron", "atd", "inetd", "xinetd"),
        *("containerd", "containerd-shim", "dockerd", "conmon", "crio", "kubelet", "podman", "docker-init"),
        *("dumb-init", "tini", "catatonit", "s6-svscan", "pause"),
        *("slurmd", "slurmstepd", "pbs_mom", "sge_execd", "sge_shepherd", "sbatchd", "res", "condor_starter"),
        *("gnome-terminal-", "konsole", "xterm", "kitty", "alacritty", "wezterm-gui", "foot", "ttyd", "code"),
        *("jupyter-lab", "jupyter-noteboo", "jupyter-server", "jupyterhub-sing", "jupyter-labhub"),
    }
)
"""Processes that begin works which have nothing to do with each other, by name (the kernel keeps 15 characters)."""
SHELLS = frozenset(
    {
        "sh",
        "bash",
        "dash",
        "ash",
        "busybox",
        "zsh",
        "fish",
        "ksh",
        "ksh93",
        "mksh",
        "csh",
        "tcsh",
        "xonsh",
        "nu",
        "pwsh",
    }
)
_EDITORS = (b"vscode-server", b"cursor-server", b"code-server", b"windsurf-server")
"""In the command lines of the servers (all of them `node`) through which an editor starts a user's programs."""
_WITH_VALUE = frozenset({"-o", "+o", "-O", "+O", "--rcfile", "--init-file", "--rcs", "-C", "--init-command"})


class Kin(Protocol):
    """A process and its place among others, as /proc/PID/stat tells it."""

    @property
    def pid(self) -> int: ...  # noqa: D102
    @property
    def ppid(self) -> int: ...  # noqa: D102
    @property
    def pgrp(self) -> int: ...  # noqa: D102
    @property
    def session(self) -> int: ...  # noqa: D102
    @property
    def start_ticks(self) -> int: ...  # noqa: D102
    @property
    def comm(self) -> str: ...  # noqa: D102


def root_of(line: Sequence[Kin], evidence: Evidence) -> Process | None:
    """The highest process that is of one work with the first of `line`; None where that has gone.

    Upwards while the parent is the same user's, is no manager, and did not start the child as a job of its own from
    a prompt: there each command is a work by itself. Workers in sessions of their own stay with their launcher.
    """
    child = line[0]
    uid = evidence.real_uid(child.pid)
    if uid is None:
        return None
    for parent in line[1:]:
        if parent.pid != child.ppid or parent.pid <= 1 or _is_manager(parent, evidence):
            break
        if evidence.real_uid(parent.pid) != uid or _is_prompt(parent, child, evidence):
            break
        child = parent
    return Process(child.pid, child.start_ticks)


def _is_manager(parent: Kin, evidence: Evidence) -> bool:
    if parent.comm == "node":
        line = evidence.command_line(parent.pid)
        return any(word in line for word in _EDITORS)
    return parent.comm in MANAGERS


def _is_prompt(parent: Kin, child: Kin, evidence: Evidence) -> bool:
    """Whether the parent is an interactive shell that gave the child a process group of its own, as it does each job.

    In a script `timeout` and `setsid` make groups, too: so what it was called with decides, where that can be read.
    """
    if parent.comm.lstrip("-") not in SHELLS or parent.pgrp == child.pgrp:
        return False
    words = [word.decode("utf-8", "replace") for word in evidence.command_line(parent.pid).split(b"\0")[:-1]]
    return _reads_commands(words) if words else parent.session == parent.pid


def _reads_commands(words: Sequence[str]) -> bool:
    """Whether a shell called so reads what to do from its input: neither a script nor `-c COMMAND`."""
    rest = iter(words[2:] if words[0].endswith("busybox") else words[1:])
    for word in rest:
        if word in _WITH_VALUE:
            next(rest, "")
        elif word.startswith(("-", "+")) and word != "-":
            if word == "--command" or (not word.startswith("--") and "c" in word):
                return False
            if word == "-s":
                return True
        else:
            return False
    return True
