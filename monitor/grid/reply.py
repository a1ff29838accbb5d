"""From a reply to values: status first, then content type, then parse; then the moments and numbers in it."""

import json
import logging
import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from monitor.core.model import Basis, Intensity, Quality, Signal
from monitor.errors import FeedError
from monitor.grid.feed import About, Ask, Reply, Want

LOG = logging.getLogger("trainwatt")
HIGHEST_GRAMS_PER_KILOWATTHOUR = 2500.0
"""The dirtiest plants emit some 1,500; more is another unit, or nonsense. It is refused, never clamped."""
LATEST_UNIX_S = 4_102_444_800.0
"""2100: what is later is milliseconds taken for seconds, or nonsense."""
SHOWN_CHARACTERS = 160
SHOWN_OF_A_VALUE = 40
REASONS = {
    HTTPStatus.UNAUTHORIZED: "key",
    HTTPStatus.FORBIDDEN: "key",
    HTTPStatus.PAYMENT_REQUIRED: "plan",
    HTTPStatus.NOT_FOUND: "zone",
    HTTPStatus.TOO_MANY_REQUESTS: "quota",
}
_LONG_FRACTION = re.compile(r"(\.\d{6})\d+")
# Some services repeat in an error what they were sent: what looks like a key or a token is not shown.
_SECRET = re.compile(r"(?=[A-Za-z_+=-]*\d)(?=[\d_+=-]*[A-Za-z])[A-Za-z0-9_+=-]{16,}")
_QUALITIES = tuple(Quality)


def document(about: About, reply: Reply) -> Any:
    """The JSON of a reply of status 200. Raises FeedError of its status, its content type or its syntax."""
    if reply.status != HTTPStatus.OK:
        raise refusal(about, reply)
    kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and kind != "application/json" and not kind.endswith("+json"):
        raise FeedError(f"{about.title} answered with {kind}, not JSON: {excerpt(reply)}", reason="content")
    return parsed(about, reply)


def parsed(about: About, reply: Reply) -> Any:
    """The JSON of a body, whatever its status. Raises FeedError."""
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError) as error:
        raise FeedError(f"{about.title} answered with no JSON: {excerpt(reply)}", reason="content") from error


def refusal(
    about: About, reply: Reply, *, reason: str | None = None, remedy: str = "", wait_s: float | None = None
) -> FeedError:
    """What a status other than 200 means. `remedy` ends the line; `wait_s` is the least to be left alone."""
    status = reply.status
    known = REASONS.get(HTTPStatus(status)) if status in HTTPStatus._value2member_map_ else None
    line = f"{about.title} answered {status}: {excerpt(reply)}"
    asked_s = retry_after_s(reply)
    return FeedError(
        f"{line}; {remedy}" if remedy else line,
        reason=reason or known or "server",
        retry_after_s=asked_s if wait_s is None else max(wait_s, asked_s or 0.0),
    )


def unlike(about: About, what: str) -> FeedError:
    """The document is not what the provider documents."""
    shown = _on_one_line(what)[:SHOWN_CHARACTERS]
    return FeedError(f"{about.title} answered with a document that is not understood: {shown}", reason="content")


def table(about: About, value: Any, what: str) -> dict[str, Any]:
    """A JSON object. Raises FeedError that names what should have been one."""
    if not isinstance(value, dict):
        raise unlike(about, f"{what} is no object")
    return value


def tables(about: About, value: Any, what: str) -> list[dict[str, Any]]:
    """A JSON array of objects, or one object alone. Raises FeedError that names what should have been one."""
    rows = value if isinstance(value, list) else [value]
    return [table(about, row, what) for row in rows]


def excerpt(reply: Reply) -> str:
    """The beginning of a body on one line, fit for a log; what looks like a key is left out."""
    text = reply.body[: 4 * SHOWN_CHARACTERS].decode("utf-8", "replace")
    for secret in sorted(reply.secrets, key=len, reverse=True):
        for written in (secret, json.dumps(secret)[1:-1], quote(secret, safe="")):
            text = text.replace(written, "***")
    shown = _on_one_line(text)
    return _SECRET.sub("***", shown)[:SHOWN_CHARACTERS] or "nothing"


def retry_after_s(reply: Reply) -> float | None:
    """Seconds of a Retry-After header, which may be a date (RFC 9110, section 10.2.3); None = there is none."""
    text = reply.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return max(0.0, _aware(moment).timestamp() - reply.received_at_s)


def unix_s(value: Any) -> float:
    """A moment as Unix time: ISO 8601 with any fraction, naive = UTC; or a number of seconds. Raises ValueError."""
    try:
        if isinstance(value, str):
            seconds = _aware(datetime.fromisoformat(_LONG_FRACTION.sub(r"\1", value.strip()))).timestamp()
        else:
            seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0.0 <= seconds < LATEST_UNIX_S:
        raise ValueError(f"{_shown(value)} is no moment between 1970 and 2100")
    return seconds


def grams(about: About, value: Any, *, factor: float = 1.0) -> float | None:
    """Grams per kWh of a number or numeric text; None for null. Raises FeedError for what cannot be an intensity.

    A legal 0 stays 0. `factor` turns the provider's unit into grams per kWh.
    """
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value) * factor
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0.0 <= number <= HIGHEST_GRAMS_PER_KILOWATTHOUR:
        raise FeedError(
            f"{about.title} gave {_shown(value)}, which is no intensity between 0 and "
            f"{HIGHEST_GRAMS_PER_KILOWATTHOUR:g} g/kWh: it is left out",
            reason="value",
        )
    return number


@lru_cache(maxsize=256)
def tell_once(line: str) -> None:
    """Log what had to be left out of a document, the same line once only: it is asked for again and again."""
    LOG.warning("%s", line)


class Gathering:
    """Makes the values of one reply: every provider's checks and labels. One bad row does not cost the others."""

    def __init__(self, about: About, ask: Ask, reply: Reply) -> None:
        self._about = about
        self._ask = ask
        self._reply = reply
        self._found: dict[tuple[float, float, Basis, Signal], Intensity] = {}
        self._left_out: FeedError | None = None

    def add(
        self,
        value: Any,
        start: Any,
        *,
        until: Any = None,
        step_s: float = 0.0,
        basis: Basis,
        quality: Quality,
        signal: Signal = Signal.AVERAGE,
        factor: float = 1.0,
        updated: Any = None,
        made_by: str = "",
        dataset: str = "",
    ) -> None:
        """One slot as the document has it, to `until` or `step_s` long. Null is nothing; nonsense is left out.

        A prognosis that came late, from a cache on the way, tells nothing of slots that are over by now.
        """
        about = self._about
        try:
            number = grams(about, value, factor=factor)
            if number is None:
                return
            from_s = unix_s(start)
            until_s = from_s + step_s if until is None else unix_s(until)
            updated_s = None if updated is None else unix_s(updated)
        except ValueError as error:
            self._leave_out(unlike(about, str(error)))
            return
        except FeedError as error:
            self._leave_out(error)
            return
        if until_s <= from_s:
            self._leave_out(unlike(about, f"a slot from {_shown(start)} that ends at {_shown(until)}"))
            return
        if quality is Quality.FORECAST and self._ask.want is Want.FORECAST and until_s <= self._ask.at_s:
            return
        self._keep(
            Intensity(
                zone=self._ask.zone,
                grams_per_kilowatthour=number,
                basis=basis,
                quality=quality,
                provider=about.name,
                signal=signal,
                valid_from_s=from_s,
                valid_until_s=until_s,
                detail=about.credit,
                fetched_at_s=self._reply.received_at_s,
                updated_at_s=updated_s,
                made_by=made_by,
                dataset=dataset,
            )
        )

    def values(self, *, otherwise: FeedError | None = None) -> list[Intensity]:
        """What there is. Raises FeedError where there is nothing: why it was left out, else `otherwise`."""
        if not self._found:
            zone = self._ask.zone
            empty = FeedError(f"{self._about.title} has no value of {zone} for what was asked", reason="empty")
            raise self._left_out or otherwise or empty
        if self._left_out is not None:
            tell_once(str(self._left_out))
        return list(self._found.values())

    def _keep(self, new: Intensity) -> None:
        """Of two values for one slot the firmer one is kept, else the one updated later, else the later row."""
        slot = (new.valid_from_s, new.valid_until_s, new.basis, new.signal)
        old = self._found.get(slot)
        if old is None or _rank(new) >= _rank(old):
            self._found[slot] = new

    def _leave_out(self, error: FeedError) -> None:
        self._left_out = self._left_out or error


def _rank(value: Intensity) -> tuple[int, float]:
    return -_QUALITIES.index(value.quality), value.updated_at_s or 0.0


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _on_one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def _shown(value: Any) -> str:
    """A value of a document in a few characters, on one line."""
    if not isinstance(value, str | int | float | None):
        return f"a {type(value).__name__}"
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python turns into text
        return "a number"
    return text if len(text) <= SHOWN_OF_A_VALUE else f"{text[:SHOWN_OF_A_VALUE]}..."
