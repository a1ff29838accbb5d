"""Files that hold a secret: nobody but their owner may read them."""

import stat
from pathlib import Path

from monitor.errors import UsageError

LONGEST_SECRET_BYTES = 16 * 1024


def require_private(path: Path, why: str) -> None:
    """Raises UsageError with the remedy where group or others may read the file."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"{path} may be read by others, and {why}: chmod 600 {path}")


def read_secret(path: Path) -> str:
    """The text of a file without the white space around it. Raises UsageError: not there, empty, or open to others."""
    require_private(path, "it holds a secret")
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST_SECRET_BYTES).decode("utf-8").strip()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no text, so it holds no key") from None
    if not text or not text.isprintable():
        raise UsageError(f"{path} is empty or has several lines: it should hold the key and nothing else")
    return text
