"""Where the ledger lives: on a disk of this machine, in a directory that only one daemon holds."""

import contextlib
import fcntl
import os
import re
from pathlib import Path

from monitor.errors import FailureError

DIRECTORY_MODE, FILE_MODE = 0o700, 0o600
DATABASE, LOCK = "ledger.sqlite", "ledger.lock"
NETWORK = frozenset({
    "9p", "afs", "beegfs", "beegfs_nodev", "ceph", "cephfs", "cifs", "coda", "cvmfs", "davfs", "gfs", "gfs2",
    "glusterfs", "gpfs", "lustre", "lustre_lite", "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2",
    "quobyte", "smb2", "smb3", "smbfs", "vxfs", "wekafs",
})  # fmt: skip
"""File systems that other machines write, too. SQLite's log in shared memory and its locks hold on one machine only."""
LOCAL_FUSE = frozenset({
    "fuse.exfat", "fuse.ext2", "fuse.ext4", "fuse.fuse-overlayfs", "fuse.ntfs", "fuse.ntfs-3g",
})  # fmt: skip
"""Of the file systems in user space those that are known to be on a local disk; sshfs, glusterfs, s3 are not."""


def refuse_network(directory: Path, mounts: Path) -> None:
    """Raise FailureError when the directory is, or would be, on a network file system.

    `mounts` has the form of /proc/self/mountinfo (proc_pid_mountinfo(5)); one that cannot be read tells nothing.
    """
    try:
        text = mounts.read_text("utf-8", "surrogateescape")
    except OSError:
        return
    kind = file_system(text, directory.resolve())
    if kind in NETWORK or (kind.startswith("fuse.") and kind not in LOCAL_FUSE):
        raise FailureError(
            f"the state directory {directory} is on a network file system ({kind}), where a ledger gets damaged: "
            f"give one on a local disk with --state-dir"
        )


def file_system(mountinfo: str, path: Path) -> str:
    """Type of the file system that a path is on: the longest mount point that contains it, of equals the newest."""
    longest, found = -1, ""
    for line in mountinfo.splitlines():
        mount, separator, source = line.partition(" - ")
        fields = mount.split(" ")
        if not separator or len(fields) < 5:  # noqa: PLR2004  (the mount point is the fifth)
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        if len(point) >= longest and path.is_relative_to(point):
            longest, found = len(point), source.split(" ")[0]
    return found


def make(directory: Path) -> None:
    """Make the directory, for its owner alone, unless it is there. Raises OSError."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        directory.mkdir(mode=DIRECTORY_MODE)


def hold(directory: Path) -> int:
    """Take the directory for this process: a locked file descriptor, let go with `os.close` or the process.

    Raises FailureError that names who has it, and OSError.
    """
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
    except BlockingIOError as error:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        os.close(lock)
        raise FailureError(
            f"another trainwatt (pid {holder or 'unknown'}) keeps its ledger in {directory}: "
            f"stop it, or give this one a directory of its own with --state-dir"
        ) from error
    except OSError:
        os.close(lock)
        raise
    return lock


def private(file: Path) -> None:
    """Make sure that the file is there, readable by its owner alone: SQLite gives its companions the same mode."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        with contextlib.suppress(PermissionError):
            os.fchmod(descriptor, FILE_MODE)
    finally:
        os.close(descriptor)
