"""`trainwatt record` and `--mock FILE` as a user meets them."""

import json
import os
import pwd
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.drivers.rapl import RaplTree, server
from tests.harness import need, poll
from tests.harness.daemon import clean_environment, command, daemon
from tests.harness.rig import tree_root


@pytest.fixture
def sysfs(tmp_path: Path) -> str:
    """A tree of two sockets."""
    return str(RaplTree(tree_root(tmp_path), server()).root)


def test_a_recording_goes_through_the_daemon(tmp_path: Path, sysfs: str) -> None:
    """What `record` wrote, `check` and `serve` show as simulated devices, and the sources that failed as failing."""
    file = tmp_path / "session.jsonl"
    done = command("record", str(file), "--seconds", "0.5", "--interval", "0.1", "--sysfs", sysfs)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert f"{file}: 0." in done.stdout
    assert "nvml, rapl" in done.stdout
    assert "mock-package-0" in command("check", "--mock", str(file)).stdout

    with daemon("--mock", str(file), log=tmp_path / "log") as served:
        text = poll.until(
            lambda: text if "trainwatt_device_energy_joules_total{" in (text := served.metrics()) else None,
            what="a device",
        )

        assert 'device="mock-package-1",method="simulated"' in text
        assert 'trainwatt_source_up{source="mock-nvml"} 0.0' in text
        assert 'trainwatt_source_up{source="nvml"}' not in text
        assert served.log.index("SIMULATED") < served.log.index("serving on"), "said before a number can be read"
        poll.until(lambda: f"the recording {file} has ended" in served.log, what="the end of the recording")
        assert served.ready()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_recording_whole(tmp_path: Path, sysfs: str, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C end it with exit 0, the summary line and a file that can be replayed."""
    file = tmp_path / "session.jsonl"
    process = subprocess.Popen(
        [need.trainwatt(), "record", str(file), "--interval", "0.1", "--sysfs", sysfs],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    poll.until(lambda: file.read_bytes().count(b"\n") > 4, what="a few turns")
    process.send_signal(number)
    said, complained = process.communicate(timeout=10)

    assert 0 == process.returncode, complained
    assert f"{file}: " in said
    assert "Traceback" not in complained
    assert all(json.loads(line) for line in file.read_text().splitlines())
    assert 0 == command("check", "--mock", str(file)).returncode


def test_a_recording_tells_nothing_of_its_user(tmp_path: Path, sysfs: str) -> None:
    """No variable of the environment, no user name and no home directory is in the file."""
    file = tmp_path / "session.jsonl"
    env = {"TRAINWATT_ZONE": "DE", "API_TOKEN": "s3cr3t-t0ken", "HOME": "/home/somebody", "USER": "somebody"}
    command("record", str(file), "--seconds", "0.2", "--interval", "0.1", "--sysfs", sysfs, env=env)
    text = file.read_text()
    user = pwd.getpwuid(os.getuid())

    assert "package-0" in text
    assert not [word for word in (*env.values(), user.pw_dir + "/", "API_TOKEN") if word in text and word != "DE"]
    assert not re.search(rf"\b{re.escape(os.uname().nodename)}\b", text)


def test_it_records_sensors_whatever_is_simulated_elsewhere(tmp_path: Path, sysfs: str) -> None:
    """`TRAINWATT_MOCK`, set for the daemon, does not put simulated devices into a recording."""
    file = tmp_path / "session.jsonl"
    env = {"TRAINWATT_MOCK": "training"}
    command("record", str(file), "--seconds", "0.2", "--interval", "0.1", "--sysfs", sysfs, env=env)

    sources = set(json.loads(file.read_text().splitlines()[0])["sources"])

    assert {"nvml", "rapl"} <= sources
    assert "mock" not in sources


def test_a_file_is_not_overwritten_unasked(tmp_path: Path, sysfs: str) -> None:
    """An existing file stays as it is, exit 2 and --force named; with --force it is replaced."""
    file = tmp_path / "session.jsonl"
    file.write_text("my notes")
    arguments = ["record", str(file), "--seconds", "0.2", "--sysfs", sysfs]
    refused = command(*arguments)

    assert (2, 1) == (refused.returncode, refused.stderr.count("\n"))
    assert "--force" in refused.stderr
    assert file.read_text() == "my notes"
    assert command(*arguments, "--force").returncode == 0
    assert "trainwatt-recording" in file.read_text()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["record"], "FILE"),
        (["record", "/no/such/folder/file"], "cannot write /no/such/folder/file: No such file or directory"),
        (["record", "/tmp", "--force"], "cannot write /tmp: Is a directory"),  # noqa: S108  (never written)
        (["record", "/no/file", "--seconds", "0"], "--seconds 0: expected seconds above 0"),
        (["record", "/no/file", "--seconds", "nan"], "--seconds nan: expected"),
        (["record", "/no/file", "--seconds", "inf"], "--seconds inf: expected"),
        (["record", "/no/file", "--interval", "0"], "interval = '0' (flag): expected"),
        (["record", "/no/file", "--sysfs", "/no/such/root"], "/no/such/root: no such directory"),
        (["serve", "--mock", "no-such-file.jsonl"], "there is: training"),
        (["serve", "--mock", "/tmp"], "cannot read the recording /tmp: Is a directory"),  # noqa: S108
        (["check", "--mock", __file__], f"{__file__}, line 1: this is no recording"),
    ],
)
def test_a_mistake_gets_one_line(args: list[str], says: str) -> None:
    """Wrong usage is one line on stderr, exit 2, and nothing on stdout."""
    done = command(*args)

    assert 2 == done.returncode
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_a_full_disk_is_told(sysfs: str) -> None:
    """A file that takes no more ends the recording early, exit 1, with one line that says why."""
    done = command("record", "/dev/full", "--force", "--seconds", "30", "--sysfs", sysfs)

    assert 1 == done.returncode
    assert "cannot write /dev/full: No space left on device" in done.stderr.splitlines()[-1]
