"""The command line as a user meets it: one line for every mistake, and its exit code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness import need, poll
from tests.harness.daemon import Daemon, clean_environment, command, daemon, free_port

WORST_MOMENT = Path(__file__).parent.parent / "native" / "preload" / "worst_moment.c"


@pytest.mark.parametrize(
    ("args", "exit_code", "says"),
    [
        (["serve", "--interval", "0"], 2, "interval = '0' (flag): expected"),
        (["serve", "--interval", "abc"], 2, "interval = 'abc' (flag): expected a valid number"),
        (["serve", "--interval", "nan"], 2, "interval = 'nan' (flag): expected a finite number"),
        (["serve", "--intervall", "1"], 2, "--interval"),
        (["serve", "--listen", "9595"], 2, "expected HOST:PORT"),
        (["serve", "--sysfs", "/no/such/root"], 2, "/no/such/root: no such directory"),
        (["serve", "--config", "/no/such/file"], 2, "cannot read the configuration file /no/such/file"),
        (["serve", "--zone", "Germny", "--mock"], 2, "did you mean DE (Germany)"),
        (["serve", "--mock", "trainig"], 2, "there is: training"),
        (["serv"], 2, "serv"),
        (["check", "--zone", "XX"], 2, "unknown grid zone 'XX'"),
    ],
)
def test_a_mistake_gets_one_line(args: list[str], exit_code: int, says: str) -> None:
    """Wrong usage is one line on stderr that says what to do, exit 2, and nothing on stdout."""
    done = command(*args)

    assert exit_code == done.returncode
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_an_unknown_key_in_the_file_names_the_nearest(tmp_path: Path) -> None:
    """A key that is no setting is an error with the nearest name, the file and exit 2."""
    file = tmp_path / "trainwatt.toml"
    file.write_text('intervall = 2\nzone = "DE"\n')
    done = command("config", "--config", str(file))

    assert (2, f"trainwatt: {file}: unknown key 'intervall'; did you mean 'interval'?\n") == (
        done.returncode,
        done.stderr,
    )


def test_a_damaged_file_says_where(tmp_path: Path) -> None:
    """A file that is no TOML is named with the line of its mistake; binary rubbish likewise."""
    file = tmp_path / "trainwatt.toml"
    file.write_text("interval = = 2\n")
    damaged = command("config", "--config", str(file))
    file.write_bytes(b"\xff\xfe\x00")
    binary = command("config", "--config", str(file))

    assert (2, 1) == (damaged.returncode, damaged.stderr.count("\n"))
    assert "line 1" in damaged.stderr
    assert (2, 1) == (binary.returncode, binary.stderr.count("\n"))


def test_settings_come_from_file_environment_and_flags(tmp_path: Path) -> None:
    """Defaults < file < environment < flags, and `config` tells for each value which it was."""
    file = tmp_path / "trainwatt.toml"
    file.write_text('interval = 2.5\nzone = "FR"\npue = 1.3\n')
    done = command(
        "config", "--config", str(file), "--zone", "DE", env={"TRAINWATT_PUE": "1.2", "TRAINWATT_ZONE": "PL"}
    )
    origins = {line.split()[0]: line for line in done.stdout.splitlines()}

    assert done.returncode == 0
    assert f"2.5             file {file}" in " ".join(origins["interval"].split(" "))
    assert "DE" in origins["zone"]
    assert "flag" in origins["zone"]
    assert "1.2" in origins["pue"]
    assert "environment" in origins["pue"]
    assert "default" in origins["listen"]


def test_privacy_is_a_table_whose_secret_is_masked(tmp_path: Path) -> None:
    """[privacy] in the file, TRAINWATT_PRIVACY_* in the environment; the salt is never shown, also when it is wrong."""
    file = tmp_path / "trainwatt.toml"
    file.write_text('[privacy]\nuser = "hash"\nsalt = "from the file"\n')
    done = command("config", "--config", str(file), env={"TRAINWATT_PRIVACY_SALT": "from outside"})
    rows = {line.split()[0]: line.split("#")[0] for line in done.stdout.splitlines()}
    file.write_text("[privacy]\nsalt = 4711\n")
    wrong = command("config", "--config", str(file))

    assert done.returncode == 0
    assert ["privacy_user", "=", "hash", "file", str(file)] == rows["privacy_user"].split()
    assert rows["privacy_salt"].split()[-1] == "environment"
    assert "from outside" not in done.stdout + done.stderr
    assert (2, 1) == (wrong.returncode, wrong.stderr.count("\n"))
    assert f"privacy_salt = (hidden) (file {file}): expected a valid string" in wrong.stderr
    assert "4711" not in wrong.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[privacy]\nusr = 'off'\n", "unknown key 'privacy.usr'; did you mean 'privacy.user'?"),
        ("[privcy]\nuser = 'off'\n", "unknown key 'privcy'"),
        ("privacy_user = 'off'\n", "unknown key 'privacy_user'; did you mean 'privacy.user'?"),
        ("privacy = 'off'\n", "privacy is a table: write [privacy], and below it user and salt"),
        ("[privacy]\nuser = 'of'\n", "privacy_user = 'of'"),
    ],
)
def test_a_mistake_in_a_table_is_named(tmp_path: Path, text: str, says: str) -> None:
    """An unknown key with the nearest name, a value with what is expected."""
    file = tmp_path / "trainwatt.toml"
    file.write_text(text)
    done = command("config", "--config", str(file))

    assert (2, 1) == (done.returncode, done.stderr.count("\n"))
    assert says in done.stderr


def test_an_unknown_variable_is_a_warning() -> None:
    """A TRAINWATT_ name that means nothing is warned about, with the nearest name: clusters inject such names."""
    done = command("config", env={"TRAINWATT_INTERVALL": "3"})

    assert done.returncode == 0
    assert (
        "TRAINWATT_INTERVALL in the environment is no setting of trainwatt; did you mean 'TRAINWATT_INTERVAL'?"
        in done.stderr
    )


def test_a_busy_port_says_what_to_do(tmp_path: Path) -> None:
    """A second daemon on the same address ends with one line that names --listen, exit 1; the first goes on."""
    with daemon("--mock", log=tmp_path / "first") as first:
        done = command("serve", "--mock", "--listen", f"127.0.0.1:{first.port}")

        assert (1, 1) == (done.returncode, done.stderr.count("\n"))
        assert f"cannot listen on 127.0.0.1:{first.port}" in done.stderr
        assert "--listen" in done.stderr
        assert first.ready()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_a_second(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM and SIGINT end the daemon cleanly within a second: exit 0, no traceback."""
    with daemon("--mock", log=tmp_path / "log") as served:
        began_s = time.monotonic()
        served.process.send_signal(number)

        assert served.process.wait(5) == 0
        assert time.monotonic() - began_s < 1.0
        assert "Traceback" not in served.log


BLOCKED = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_a_signal_ends_it_whoever_started_it(tmp_path: Path) -> None:
    """Also where it was started with the signal blocked."""
    with daemon("--mock", log=tmp_path / "log", before=[sys.executable, "-c", BLOCKED]) as served:
        served.process.send_signal(signal.SIGTERM)

        assert served.process.wait(5) == 0


def test_a_signal_ends_it_at_any_moment(tmp_path: Path) -> None:
    """Also one that comes as it is about to wait for it: a preloaded library sends it between Python and the kernel."""
    library, log = tmp_path / "worst_moment.so", tmp_path / "log"
    gcc = [
        need.program("gcc"),
        "-shared",
        "-fPIC",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
        str(library),
        str(WORST_MOMENT),
    ]
    subprocess.run(gcc, check=True)
    env = clean_environment({"LD_PRELOAD": str(library)})
    listen = ("--listen", f"127.0.0.1:{free_port()}", "--socket", str(tmp_path / "socket"))
    with log.open("w") as stderr:
        process = subprocess.Popen([need.trainwatt(), "serve", "--mock", *listen], env=env, stderr=stderr)
    try:
        assert 0 == process.wait(20)
    finally:
        process.kill()
        process.wait()

    assert log.read_text().endswith("stopped\n")


def test_no_sensor_keeps_serving(tmp_path: Path) -> None:
    """Without any sensor it serves, says so once and names --mock; no device, watt, joule or gram is invented."""
    (tmp_path / "sys").mkdir()
    with daemon("--sysfs", str(tmp_path / "sys"), "--zone", "DE", log=tmp_path / "log") as served:
        text = served.metrics()

    assert served.log.count("--mock") == 1
    assert "no sensor can be read" in served.log
    assert not [line for line in text.splitlines() if line.startswith(("trainwatt_device", "trainwatt_node_measured"))]
    assert "trainwatt_node_emissions" not in text
    assert 'trainwatt_source_up{source="nvml"} 0.0' in text
    assert 'trainwatt_source_up{source="rapl"} 0.0' in text


def test_no_zone_means_no_grams(tmp_path: Path) -> None:
    """Without a zone grams are absent, energy flows, unpriced joules are counted; the log says how to set one."""
    with daemon("--mock", log=tmp_path / "log") as served:
        text = served.metrics()

    assert "--zone" in served.log
    assert "_emissions_grams_total" not in text
    assert "trainwatt_grid_intensity" not in text
    assert "trainwatt_device_energy_joules_total{" in text
    assert "trainwatt_node_unpriced_energy_joules" in text


def test_check_exits_1_when_nothing_is_measured(tmp_path: Path) -> None:
    """`check` fails where no sensor can be read, and succeeds on simulated devices."""
    assert command("check", "--sysfs", str(tmp_path)).returncode == 1
    assert command("check", "--mock").returncode == 0


def test_a_users_own_modules_do_not_shadow_ours(tmp_path: Path) -> None:
    """`monitor.py` and `exporters.py` in the current directory and on PYTHONPATH leave the command alone."""
    for name in ("monitor.py", "exporters.py", "dashboards.py", "click.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module')\n")
    done = command("config", env={"PYTHONPATH": str(tmp_path)}, cwd=tmp_path)

    assert (0, "") == (done.returncode, done.stderr)


def test_an_ordinary_user_can_run_it(tmp_path: Path) -> None:
    """Nothing needs root: the same daemon serves for an ordinary user."""
    if os.geteuid() != 0:
        pytest.skip("already an ordinary user: every other test of this file shows it")
    as_nobody = [need.program("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
    port = free_port()
    if subprocess.run([*as_nobody, sys.executable, "-c", ""], check=False, cwd="/").returncode:
        need.missing("an interpreter that an ordinary user may run")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*as_nobody, need.trainwatt(), "serve", "--mock", "--listen", f"127.0.0.1:{port}"],
            stdout=log,
            stderr=log,
            cwd="/",
            text=True,
        )
    served = Daemon(process, port, tmp_path / "log")
    try:
        poll.until(served.ready, what="readiness")

        assert "trainwatt_device_energy_joules_total{" in served.metrics()
    finally:
        process.terminate()
        process.wait(10)


def test_beyond_loopback_only_metrics_and_probes_are_served(tmp_path: Path) -> None:
    """Elsewhere the page and the API answer 403 with the remedy, unless --expose was given; metrics are served."""
    for flags, status in (((), 403), (("--expose",), 200)):
        port = free_port()
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(
                [need.trainwatt(), "serve", "--mock", "--listen", f"0.0.0.0:{port}", *flags],
                stdout=log,
                stderr=log,
                text=True,
            )
        served = Daemon(process, port, tmp_path / "log")
        try:
            poll.until(served.ready, what="readiness")

            assert {status} == {served.get(path)[0] for path in ("/", "/api/v1/snapshot")}
            assert served.get("/metrics")[0] == served.get("/-/healthy")[0] == 200
            assert ("--expose" in served.log) == (status == 403)
        finally:
            process.terminate()
            process.wait(10)


def test_a_full_disk_is_one_line() -> None:
    """What cannot be written is told as what it is."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [need.trainwatt(), "config"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=20
        )

    assert (1, "trainwatt: cannot write: No space left on device; make room, or write elsewhere\n") == (
        done.returncode,
        done.stderr,
    )
