import json
import os
from pathlib import Path

import pytest

from exporters.report_file import parse_report, read_report, report_json, write_report
from monitor.errors import FailureError
from tests.exporters.test_report_document import demo, document, totals

GOOD = report_json(document())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"hello", "is not JSON that can be read: expected"),
        (b"\xff\xfe\x00", "is not JSON"),
        (GOOD.encode()[:-200], "is cut off"),
        (b"[1, 2]", "is not a report of trainwatt"),
        (b'{"format": "other"}', "is not a report of trainwatt"),
        (b"[" * 7000, "is not JSON"),
        (GOOD.replace('"version": 1', '"version": 2').encode(), "is a report of version 2"),
        (GOOD.replace('"version": 1', '"version": "1"').encode(), "is a damaged report: version"),
        (GOOD.replace('"duration_s": 61.2', '"duration_s": ' + "NaN").encode(), "is a damaged report: duration_s"),
        (GOOD.replace('"duration_s": 61.2', '"duration_s": ' + "1e999").encode(), "is a damaged report: duration_s"),
        (GOOD.replace('"duration_s"', '"length_s"').encode(), "is a damaged report: duration_s: Field required"),
        (GOOD.replace('"steps": 60', '"steps": ' + "9" * 5000).encode(), "out of range"),
        (GOOD.replace('"name": "demo"', '"name": "\\ud800"').encode(), "is not JSON"),
        (GOOD.encode() + b" " * 9000, "is larger than any report"),
    ],
)
def test_what_is_no_report_gets_one_line(tmp_path: Path, data: bytes, says: str) -> None:
    """Whatever stands in a file, it is a report or one line that names the file and what is wrong with it."""
    file = tmp_path / "it.json"
    file.write_bytes(data)
    with pytest.raises(FailureError) as refused:
        read_report(file, largest_bytes=8000)

    assert str(refused.value).startswith(f"{file} is")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_opened_gets_one_line(tmp_path: Path) -> None:
    """A directory, a missing file and a name that is too long say so."""
    for path, says in (
        (tmp_path, "Is a directory"),
        (tmp_path / "none", "No such file"),
        (tmp_path / ("x" * 300), "too long"),
    ):
        with pytest.raises(FailureError, match=says):
            read_report(path)


def test_an_endless_file_has_an_end() -> None:
    """A device that never stops is read up to the size of the largest report."""
    with pytest.raises(FailureError, match="/dev/zero is larger than any report"):
        read_report(Path("/dev/zero"), largest_bytes=10_000)


def test_keys_of_later_releases_are_passed_over() -> None:
    """Within a version keys may be added."""
    later = json.loads(GOOD) | {"weather": 1}

    assert parse_report(json.dumps(later).encode(), "it") == json.loads(GOOD)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """What was there is replaced, a link's target in its place; a failure leaves the old file and nothing else."""
    file, link = tmp_path / "report.json", tmp_path / "link.json"
    file.write_text("old")
    link.symlink_to(file)
    write_report(link, GOOD)

    assert (GOOD, True) == (file.read_text(), link.is_symlink())
    with pytest.raises(FailureError, match="cannot write"):
        write_report(tmp_path / "none" / "report.json", GOOD)
    with pytest.raises(FailureError, match="Is a directory"):
        write_report(tmp_path, GOOD)
    assert {"report.json", "link.json"} == {path.name for path in tmp_path.iterdir()}


def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    """A pipe or a device is not replaced by a file."""
    write_report(Path("/dev/null"), GOOD)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_report(pipe, "words")

    assert Path("/dev/null").is_char_device()
    assert (b"words", True) == (os.read(reader, 100), pipe.is_fifo())
    os.close(reader)


def test_names_survive_the_file() -> None:
    """Whatever a run is called, it comes back so."""
    hostile = 'a"b\\c\x1b[31m\u202e\N{SNOWMAN}'
    written = report_json(document(totals(demo(name=hostile))))

    assert hostile == parse_report(written.encode(), "it")["run"]["name"]
    assert written.isascii()
