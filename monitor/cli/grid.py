"""`trainwatt grid`: how clean the electricity is now, how clean it will be, and when to start."""

import json
import math
import re
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from monitor.cli.grid_known import Known, known
from monitor.cli.options import load_settings, settings_flags
from monitor.core.forecast import Start, best_start
from monitor.core.model import Rate, Signal
from monitor.errors import FailureError, UsageError

HOUR_S = 3600.0
LONGEST_H = 96.0


class Hours(click.FloatRange):
    """A finite number of hours: NaN passes every comparison of a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises click.BadParameter."""
        hours = float(super().convert(value, param, ctx))
        if math.isnan(hours):
            self.fail(f"{value!r} is no number of hours", param, ctx)
        return hours


HOURS = Hours(0.0, LONGEST_H, min_open=True)

TIME_OF_DAY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")

flags_of_all = settings_flags("zone", "feeds", "socket")
as_json_flag = click.option("--json", "as_json", is_flag=True, help="machine-readable")


@click.group()
def grid() -> None:
    """The daemon is asked; where none answers, each feed is asked once, and the yearly value stands in."""


@grid.command()
@flags_of_all
@as_json_flag
def now(config: Path | None, as_json: bool, **flags: Any) -> None:  # noqa: FBT001  (click passes flags so)
    """Tell the value in use, whose it is, how old it is, and what would come next."""
    found = known(load_settings(config, flags).settings)
    values = _in_use(found)
    if as_json:
        state = {key: value for key, value in found.document.items() if key not in {"grid", "settled", "outlooks"}}
        _print_json(state | _source(found) | {"zone": found.zone, "now": values})
        return
    _print([f"zone {found.zone}: {found.document['found'] or 'as set'}", *_asked(found)])
    for value in values:
        _print(_value_words(value))
    _print(_feed_words(found))


@grid.command()
@click.option(
    "--hours",
    type=HOURS,
    default=24.0,
    show_default=True,
    help="how far ahead",
)
@flags_of_all
@as_json_flag
def forecast(config: Path | None, hours: float, as_json: bool, **flags: Any) -> None:  # noqa: FBT001
    """Tell what is expected, and how far off the last forecasts were."""
    found = known(load_settings(config, flags).settings, ahead_s=hours * HOUR_S)
    until_s = time.time() + hours * HOUR_S
    outlooks = [
        outlook | {"slots": [slot for slot in outlook["slots"] if slot["from_s"] < until_s]}
        for outlook in _outlooks(found)
    ]
    if as_json:
        _print_json({"zone": found.zone, **_source(found), "outlooks": outlooks})
        return
    _print(_asked(found))
    for outlook in outlooks:
        _print([f"{_outlook_name(outlook)}; {_score_words(outlook)}"])
        _print(
            f"  {_clock(slot['from_s'])} to {_clock(slot['until_s'])}  {slot['grams_per_kilowatthour']:6.0f} g/kWh"
            for slot in outlook["slots"]
        )


@grid.command()
@click.option("--hours", required=True, type=HOURS, help="how long the work will take")
@click.option("--deadline", metavar="TIME", help="it must have ended by then: 2026-11-23T08:00, 08:00 or +12h")
@flags_of_all
@as_json_flag
def best(
    config: Path | None,
    hours: float,
    deadline: str | None,
    as_json: bool,  # noqa: FBT001
    **flags: Any,
) -> None:
    """Advise when to start, if that saves more than the forecast is usually off."""
    now_s = time.time()
    deadline_s = None if deadline is None else moment(deadline, now_s)
    if deadline_s is not None and deadline_s < now_s + hours * HOUR_S:
        raise UsageError(f"--deadline {deadline}: {hours:g} h of work that begins now would end later")
    ahead_s = LONGEST_H * HOUR_S if deadline_s is None else deadline_s - now_s
    found = known(load_settings(config, flags).settings, ahead_s=ahead_s)
    # For shifting load the marginal plant is the question; the mean of all plants stands in where nobody tells it.
    outlooks = sorted(_outlooks(found), key=lambda outlook: outlook["signal"] != Signal.MARGINAL)
    for outlook in outlooks:
        slots = [Rate(slot["grams_per_kilowatthour"], slot["from_s"], slot["until_s"]) for slot in outlook["slots"]]
        start = best_start(slots, hours * HOUR_S, now_s, deadline_s, now_s)
        if start is not None:
            break
    else:
        raise FailureError(
            f"no forecast of {found.zone} covers {hours:g} h by the deadline; look at trainwatt grid forecast"
        )
    advised, reason = advice(start, outlook["mean_error_g"])
    if as_json:
        words = {key: value for key, value in outlook.items() if key != "slots"}
        _print_json(
            {"zone": found.zone, **_source(found), "hours": hours, "advised": advised, "reason": reason}
            | start._asdict()
            | {"outlook": words}
        )
        return
    _print(_asked(found))
    wait_h = (start.start_s - now_s) / HOUR_S
    when = f"start at {_clock(start.start_s)} (in {wait_h:.1f} h)" if advised else "start when you like"
    _print([f"{when}: {reason}", f"by {_outlook_name(outlook)}; {_score_words(outlook)}"])


def advice(start: Start, mean_error_g: float | None) -> tuple[bool, str]:
    """Whether to wait, and why: only where that saves more than the last forecasts were off."""
    means = f"{start.mean_g:.0f} g/kWh on average"
    if start.now_mean_g is None:
        return False, f"the best would be {means}, but what starting now means is not covered by the forecast"
    saving_g = start.now_mean_g - start.mean_g
    if saving_g <= 0.0:
        return False, f"now is as good as later, {means}"
    at = f"at {_clock(start.start_s)} it would be {means} instead of {start.now_mean_g:.0f}"
    if mean_error_g is None:
        return False, f"{at}, but how far off this forecast usually is, is not known yet"
    if saving_g <= mean_error_g:
        return False, f"{at}, but the last forecasts were off by {mean_error_g:.0f} g/kWh, more than that saves"
    return True, f"{means} instead of {start.now_mean_g:.0f} now, {saving_g / start.now_mean_g:.0%} less"


def moment(text: str, now_s: float) -> float:
    """Unix time of `2026-11-23T08:00` (local unless it says otherwise), `08:00` (the next one) or `+12h`."""
    if match := re.fullmatch(r"\+(\d+(?:\.\d+)?)h", text):
        return now_s + float(match[1]) * HOUR_S
    if match := TIME_OF_DAY.fullmatch(text):
        today = datetime.fromtimestamp(now_s).replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)  # noqa: DTZ006  (local time is meant)
        at_s = today.timestamp()
        return at_s if at_s > now_s else (today + timedelta(days=1)).timestamp()
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"--deadline {text!r}: expected a time such as 2026-11-23T08:00, 08:00 or +12h") from None


# -- what is known, in words -----------------------------------------------------------------------------------------


def _in_use(found: Known) -> list[dict[str, Any]]:
    """The values that price the present, each with the one that would come next."""
    slots = [slot for slot in found.document["grid"] if slot["zone"] == found.zone]
    now_s = (found.document["at"] or {"unix_s": time.time()})["unix_s"]
    values = []
    for index, slot in enumerate(slots):
        if slot["in_use"]:
            after = (one for one in slots[index + 1 :] if one["signal"] == slot["signal"] and _covers(one, now_s))
            values.append(slot | {"next": next(after, None)})
    return values


def _covers(slot: dict[str, Any], at_s: float) -> bool:
    from_s, until_s = slot["valid_from_s"], slot["valid_until_s"]
    return (from_s is None or from_s <= at_s) and (until_s is None or at_s < until_s)


def _outlooks(found: Known) -> list[dict[str, Any]]:
    outlooks = [outlook for outlook in found.document["outlooks"] if outlook["zone"] == found.zone]
    if not outlooks:
        problems = [
            feed["problem"] for feed in found.document["feeds"] if feed["zone"] == found.zone and feed["problem"]
        ]
        why = problems[0] if problems else "no feed of the zone has one; look at trainwatt check"
        raise FailureError(f"no forecast of {found.zone} is known: {why}")
    return outlooks


def _source(found: Known) -> dict[str, Any]:
    return {"source": found.source, "why": found.why or None}


def _asked(found: Known) -> list[str]:
    return [f"asked the feeds once: {found.why}"] if found.source != "daemon" else []


def _value_words(value: dict[str, Any]) -> list[str]:
    lines = [_short(value)]
    if value["valid_until_s"] is not None:
        span = f"{_clock(value['valid_from_s'])} to {_clock(value['valid_until_s'])}"
        age_s = value["age_s"]
        lines.append(
            f"  holds {span}; " + ("within its interval" if not age_s else f"its interval ended {_lasted(age_s)} ago")
        )
    following = value["next"]
    if following:
        lines.append(f"  next: {_short(following)}")
    elif value["valid_until_s"] is not None:
        lines.append("  next: nothing; energy would have no price")
    lines.append(f"  credit: {value['detail']}")
    return lines


def _short(value: dict[str, Any]) -> str:
    return (
        f"{value['grams_per_kilowatthour']:g} g/kWh, {value['signal']}, {value['basis']} basis, {value['quality']}, "
        f"by {value['provider']}"
    )


def _feed_words(found: Known) -> list[str]:
    now_s = time.time()
    lines = []
    for feed in found.document["feeds"]:
        if feed["zone"] != found.zone:
            continue
        seen_s = feed["last_success_s"]
        state = "has given no value" if seen_s is None else f"answered {_lasted(max(0.0, now_s - seen_s))} ago"
        lines.append(f"feed {feed['provider']}: {state}" + (f"; {feed['problem']}" if feed["problem"] else ""))
    return lines or [f"no feed is asked for {found.zone}: the yearly value is all there is"]


def _outlook_name(outlook: dict[str, Any]) -> str:
    return f"{outlook['provider']}'s forecast of the {outlook['signal']} intensity ({outlook['basis']} basis)"


def _score_words(outlook: dict[str, Any]) -> str:
    if outlook["mean_error_g"] is None:
        return "how far off it usually is, is not known yet"
    ratio = f" ({outlook['error_ratio']:.0%})" if outlook["error_ratio"] is not None else ""
    return f"lately off by {outlook['mean_error_g']:.0f} g/kWh{ratio}, bias {outlook['bias_g']:+.0f}"


def _clock(at_s: float) -> str:
    return datetime.fromtimestamp(at_s).astimezone().strftime("%a %H:%M")


def _lasted(seconds: float) -> str:
    if seconds < 2 * 60.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 2 * HOUR_S else f"{seconds / HOUR_S:.1f} h"


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line.encode("utf-8", "replace").decode())


def _print_json(document: dict[str, Any] | Sequence[Any]) -> None:
    click.echo(json.dumps(document, indent=2))
