"""Report documents as files: read with one clear line for whatever is no report, written whole or not at all."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from exporters.quantities import plain
from exporters.report_model import FORMAT, VERSION, Report
from monitor.errors import FailureError

LARGEST_BYTES = 64 * 1024 * 1024
"""A report of one node has about 2 MB at most; a merged one as much for each of its parts."""


def read_report(path: Path, *, largest_bytes: int = LARGEST_BYTES) -> dict[str, Any]:
    """The document of a file. Raises FailureError naming the file: unreadable, too large, damaged, or no report."""
    try:
        with path.open("rb") as file:
            data = file.read(largest_bytes + 1)
    except OSError as error:
        raise FailureError(f"cannot read {plain(str(path), 200)}: {error.strerror or error}") from error
    return parse_report(data, plain(str(path), 200), largest_bytes=largest_bytes)


def parse_report(data: bytes, what: str, *, largest_bytes: int = LARGEST_BYTES) -> dict[str, Any]:
    """The document of these bytes. Raises FailureError that names them `what`."""
    if len(data) > largest_bytes:
        raise FailureError(f"{what} is larger than any report ({largest_bytes // 1024**2} MiB)")
    if not data.strip():
        raise FailureError(f"{what} is empty")
    try:
        document = Report.model_validate_json(data)
    except ValidationError as error:
        raise FailureError(f"{what} {_why(data, error)}") from error
    return document.model_dump(mode="json")


def check_report(document: Mapping[str, Any], what: str) -> dict[str, Any]:
    """A document that came over the control socket, judged like a file. Raises FailureError."""
    return parse_report(json.dumps(document).encode(), what)


def _why(data: bytes, error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        reason = str(first.get("ctx", {}).get("error", "")).strip()
        return "is cut off: write it again" if reason.startswith("EOF") else f"is not JSON that can be read: {reason}"
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return "is not JSON that can be read"
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return 'is not a report of trainwatt: it has no "format": "trainwatt-report"'
    version = document.get("version")
    if isinstance(version, int) and version > VERSION:
        return f"is a report of version {version}, and this trainwatt knows up to {VERSION}: read it with a newer one"
    place = ".".join(str(key) for key in first["loc"])
    return f"is a damaged report: {plain(place)}: {first['msg']}"


def report_json(document: Mapping[str, Any]) -> str:
    """The document as JSON, a key a line and an interval a line."""
    lines = [f"{json.dumps(key)}: {_value(key, value)}" for key, value in document.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _value(key: str, value: Any) -> str:
    if key != "intervals" or not value:
        return json.dumps(value, allow_nan=False)
    rows = ",\n".join(json.dumps(row, allow_nan=False) for row in value["rows"])
    head = json.dumps({name: part for name, part in value.items() if name != "rows"}, allow_nan=False)
    return f'{head[:-1]}, "rows": [\n{rows}\n]}}'


def write_report(path: Path, text: str) -> None:
    """Write a file whole or not at all; what was there is replaced. Raises FailureError."""
    try:
        target = path.resolve()
        if target.exists() and not target.is_file():
            target.write_text(text, "utf-8")  # a pipe or a terminal: nothing to replace
            return
        _replace(target, text)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise FailureError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error


def _replace(target: Path, text: str) -> None:
    fresh = target.with_name(f".{target.name[:200]}.{os.getpid()}")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
