"""The user's own meter, contract or service: `http` asks for a JSON document, `file` reads a JSON or CSV file.

Without further words the document is a list of {"from", "until", "grams_per_kilowatthour"}, and a CSV file has columns
of these names. Options say otherwise (paths as in monitor/grid/paths.py):

    value    where the number stands; null is no value
    from, until    where the slot's edges stand: Unix time in s or ms, or ISO 8601 (naive = UTC)
    step_s   seconds of a slot, or where they stand (300); a value without a time is of the step in which it is read,
             in a file of the step in which the file was written
    factor   grams per kWh in one of the document's unit (1000 for kg/kWh)
    basis    lifecycle, direct or unknown; quality    actual, estimated or forecast; credit    whom to name
    zones    the zones that it speaks for; any unless given
    forecast true where rows of the time to come are to be used
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit, urlunsplit

from monitor.core.model import Basis, Intensity, Quality
from monitor.errors import UsageError
from monitor.grid import reply
from monitor.grid.feed import About, Account, Ask, Reply, Request, Want
from monitor.grid.options import Options
from monitor.grid.paths import Missing, Path, path_of

WORDS = ("value", "from", "until", "step_s", "factor", "basis", "quality", "credit", "zones", "forecast")
ROW = {"value": "[*].grams_per_kilowatthour", "from": "[*].from", "until": "[*].until"}
QUALITIES = (Quality.ACTUAL, Quality.ESTIMATED, Quality.FORECAST)
CADENCE_S = 300.0
LONGEST_SLOT_S = 10 * 366 * 86_400.0
"""A contract's factor may hold for years."""
MILLISECONDS_FROM = 1e11
"""Seconds beyond it would be after the year 5000."""
FORECAST_S = 96 * 3600.0
PAST_S = 366 * 86_400.0
HINT_S = 3 * 3600.0


@dataclass(frozen=True, slots=True)
class Shape:
    """Where in a document the values of a zone stand, and what they are."""

    value: Path
    start: Path | None
    until: Path | None
    step_s: float | Path | None
    factor: float
    basis: Basis
    quality: Quality
    zones: frozenset[str]

    @classmethod
    def of(cls, options: Options) -> "Shape":
        """As the options say. Raises UsageError."""
        stated = {name for name in ("value", "from", "until", "step_s") if options.text(name)}
        words = {name: options.text(name) for name in stated} if stated else ROW
        if "value" not in words:
            raise options.wrong("value", "where the number stands, such as data.0.value")
        value, start, until = (_path(options, name, words.get(name, "")) for name in ("value", "from", "until"))
        step_s = _step(options, words.get("step_s", ""))
        edges = [edge for edge in (start, until, step_s) if isinstance(edge, Path)]
        if value is None or any(edge.is_many and edge.list_steps != value.list_steps for edge in edges):
            raise options.wrong("value", "a path with the same list as from, until and step_s")
        if value.is_many and start is None and until is None:
            raise options.wrong("from", "where the time of each value stands")
        if (start is None) != (until is None) and step_s is None:
            raise options.wrong("step_s", "seconds of a slot, since only one of its edges is given")
        return cls(
            value=value,
            start=start,
            until=until,
            step_s=step_s,
            factor=_positive(options, "factor", options.text("factor", "1")),
            basis=Basis(options.choice("basis", tuple(Basis), Basis.UNKNOWN)),
            quality=Quality(options.choice("quality", QUALITIES, Quality.ACTUAL)),
            zones=frozenset(options.text("zones").replace(",", " ").split()),
        )


class Own:
    """What both have in common. `about` tells them apart."""

    def __init__(self, options: Options, *, name: str, title: str, past_s: float) -> None:
        self._shape = Shape.of(options)
        step_s = self._shape.step_s
        self.about = About(
            name=name,
            title=title,
            credit=options.text("credit", "the site's own figures"),
            cadence_s=min(CADENCE_S, max(60.0, step_s)) if isinstance(step_s, float) else CADENCE_S,
            phase_s=30.0,
            apart_s=1.0,
            past_s=past_s,
            forecast_s=FORECAST_S if options.flag("forecast") else 0.0,
        )

    def knows(self, zone: str) -> bool:
        """Whether the settings name the zone, or none at all."""
        return not self._shape.zones or zone in self._shape.zones

    def parse(self, ask: Ask, answer: Reply) -> Sequence[Intensity]:
        """The values of the time that was asked for: a file may hold years."""
        if answer.status != HTTPStatus.OK:
            raise reply.refusal(self.about, answer)
        document = self._document(answer)
        value, gathering = self._shape.value, reply.Gathering(self.about, ask, answer)
        try:
            for row in value.rows(document) if value.is_many else [document]:
                start, until = self._edges(answer, document, row)
                if _is_asked(ask, start, until):
                    gathering.add(
                        _at(value, document, row),
                        start,
                        until=until,
                        basis=self._shape.basis,
                        # Nobody has measured what is to come.
                        quality=Quality.FORECAST if _is_to_come(ask, start) else self._shape.quality,
                        factor=self._shape.factor,
                    )
        except Missing as error:
            raise reply.unlike(self.about, str(error)) from error
        return gathering.values()

    def _document(self, answer: Reply) -> Any:
        # It is the user's own: whatever it is called, it has to be JSON.
        return reply.parsed(self.about, answer)

    def _edges(self, answer: Reply, document: Any, row: Any) -> tuple[Any, Any]:
        """Both edges of a slot in Unix time; one that is not understood, as it stands."""
        shape = self._shape
        start = None if shape.start is None else _moment(_at(shape.start, document, row))
        until = None if shape.until is None else _moment(_at(shape.until, document, row))
        if shape.start is not None and shape.until is not None:
            return start, until
        step_s = CADENCE_S if shape.step_s is None else self._step_s(shape.step_s, document, row)
        if shape.start is not None:
            return start, start + step_s if isinstance(start, float) else start
        if shape.until is not None:
            return until - step_s if isinstance(until, float) else until, until
        start_s = math.floor(self._told_at_s(answer) / step_s) * step_s
        return start_s, start_s + step_s

    def _told_at_s(self, answer: Reply) -> float:
        """Unix time of a value that has none of its own."""
        return answer.received_at_s

    def _step_s(self, step_s: float | Path, document: Any, row: Any) -> float:
        number = _number(_at(step_s, document, row)) if isinstance(step_s, Path) else step_s
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0.0 < number <= LONGEST_SLOT_S:
            raise reply.unlike(self.about, f"{number!r:.40} is no length of a slot in seconds")
        return float(number)


class OwnHttp(Own):
    """A document on a server of the user's.

    `base_url` is its address, to which option `path` is added. A key is a bearer's token, or goes in the header that
    option `header` names; user and password go over Basic, where no token takes their place.
    """

    def __init__(self, account: Account) -> None:
        options = Options("http", account.options, (*WORDS, "path", "header"))
        if not account.base_url:
            raise UsageError("feed.http: set base_url to the address of your document, such as http://meter/api/now")
        parts = _split(account.base_url + options.text("path"))
        user, password = (
            account.user or unquote(parts.username or ""),
            account.password or unquote(parts.password or ""),
        )
        header = options.text("header")
        is_bearer = bool(account.key) and not header
        self._auth = (user, password) if (user or password) and not is_bearer else None
        self._url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        self._params = tuple(parse_qsl(parts.query, keep_blank_values=True))
        named = {header: account.key} if header else {"Authorization": f"Bearer {account.key}"}
        self._headers = named if account.key else {}
        super().__init__(options, name="http", title="your own feed", past_s=0.0)

    def request(self, ask: Ask) -> Request | None:
        """The same document for whatever it can answer. It does not take times, so nothing of the past is asked."""
        if ask.want is Want.PAST or (ask.want is Want.FORECAST and not self.about.forecast_s):
            return None
        return Request(url=self._url, params=self._params, headers=self._headers, auth=self._auth)


class OwnFile(Own):
    """Option `path`: an absolute path; a name that ends in .csv is a table, any other JSON."""

    def __init__(self, account: Account) -> None:
        options = Options("file", account.options, (*WORDS, "path"))
        path = options.text("path") or unquote((account.base_url or "").removeprefix("file://"))
        if not path.startswith("/"):
            raise UsageError("feed.file: set path to the absolute path of a JSON or CSV file")
        self._url = f"file://{quote(path)}"
        self._is_table = path.lower().endswith(".csv")
        super().__init__(options, name="file", title="your own file", past_s=PAST_S)

    def request(self, ask: Ask) -> Request | None:
        """No HTTP: the client reads such an address from the disk."""
        if ask.want is Want.FORECAST and not self.about.forecast_s:
            return None
        return Request(url=self._url)

    def _told_at_s(self, answer: Reply) -> float:
        """When the file was written, so that one that nobody writes any more shows as old."""
        try:
            return parsedate_to_datetime(answer.headers["last-modified"]).timestamp()
        except (KeyError, ValueError):
            return answer.received_at_s

    def _document(self, answer: Reply) -> Any:
        if not self._is_table:
            return super()._document(answer)
        try:
            # Spreadsheets begin a file with a byte-order mark, and write a field that is empty for none.
            table = csv.DictReader(io.StringIO(answer.body.decode("utf-8-sig"), newline=""), strict=True)
            return [{name: cell or None for name, cell in row.items()} for row in table]
        except (UnicodeDecodeError, csv.Error) as error:
            raise reply.unlike(self.about, f"no CSV: {error}") from error


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            return parts
    except ValueError:
        pass
    raise UsageError("feed.http: base_url: expected http://HOST/PATH or https://HOST/PATH")


def _at(path: Path, document: Any, row: Any) -> Any:
    """What stands at a path, in the row where it leads through the list."""
    return path.in_row(row) if path.is_many else path.one(document)


def _number(value: Any) -> Any:
    """A text that is a number as this number, since tables hold nothing but texts; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value


def _moment(value: Any) -> Any:
    """A moment as Unix time; what is none, as it stands."""
    number = _number(value)
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    if is_number and MILLISECONDS_FROM <= number < 1000.0 * MILLISECONDS_FROM:
        number /= 1000.0
    try:
        return reply.unix_s(number)
    except ValueError:
        return value


def _is_to_come(ask: Ask, start: Any) -> bool:
    return isinstance(start, float) and start > ask.at_s


def _is_asked(ask: Ask, start: Any, until: Any) -> bool:
    """Whether a slot is of the time that was asked for: up to now, to come, or of a span.

    One whose time is not understood is: so it comes to be told.
    """
    if not isinstance(start, float) or not isinstance(until, float):
        return True
    if ask.want is Want.FORECAST:
        return ask.at_s < start < ask.end_s
    if ask.want is Want.LATEST:
        return start <= ask.at_s and until > min(ask.start_s, ask.at_s - HINT_S)
    return start < ask.end_s and until > ask.start_s


def _path(options: Options, name: str, text: str) -> Path | None:
    try:
        return path_of(text) if text else None
    except ValueError as error:
        raise options.wrong(name, f"a path such as data.0.value ({error})") from error


def _step(options: Options, text: str) -> float | Path | None:
    """Seconds, or where they stand."""
    try:
        float(text)
    except ValueError:
        return _path(options, "step_s", text)
    return _positive(options, "step_s", text)


def _positive(options: Options, name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 < number < math.inf:
        raise options.wrong(name, "a number above 0")
    return number
