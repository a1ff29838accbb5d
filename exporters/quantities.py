"""Numbers and names as words on a terminal: three to four digits, an SI prefix, nothing that moves a cursor."""

from datetime import UTC, datetime

from monitor.core.units import kilowatthours

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
LONGEST_NAME = 60
HOUR_S, DAY_S = 3600, 86400


def quantity(value: float, unit: str) -> str:
    """A value in its unit: two decimals below 100, one below 1000."""
    scale, prefix = _scale(value)
    scaled = value / scale
    return f"{scaled:.{_decimals(scaled)}f} {prefix}{unit}" if value else f"0 {unit}"


def _scale(value: float) -> tuple[float, str]:
    # Half of the last digit shown below a step belongs to the step: 999.97 is 1.00 k.
    return next((step for step in PREFIXES if abs(value) >= 0.99995 * step[0]), (1e-3, "m"))


def _decimals(scaled: float) -> int:
    return 2 if abs(scaled) < 99.995 else 1  # noqa: PLR2004  (100 as two decimals show it)


def joules(energy_j: float) -> str:
    """Energy in J."""
    return quantity(energy_j, "J")


def watt_hours(energy_j: float) -> str:
    """Energy in Wh."""
    return quantity(1000.0 * kilowatthours(energy_j), "Wh")


def grams(emissions_g: float) -> str:
    """Grams of CO2e with two digits: no factor is known better. Beyond a thousand kilograms in tonnes."""
    if not emissions_g:
        return "0 g CO2e"
    two = float(f"{emissions_g:.1e}")
    scale, prefix = _scale(two)
    unit = {"Mg": "t", "Gg": "kt", "Tg": "Mt"}.get(prefix + "g", prefix + "g")
    return f"{two / scale:.{1 if two / scale < 9.95 else 0}f} {unit} CO2e"  # noqa: PLR2004  (10 as one decimal shows it)


def duration(seconds: float) -> str:
    """A span of time by its two greatest units."""
    if seconds < 2 * 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < HOUR_S:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < DAY_S:
        return f"{whole // HOUR_S} h {whole % HOUR_S // 60:02} min"
    return f"{whole // DAY_S} d {whole % DAY_S // HOUR_S:02} h"


def percent(ratio: float) -> str:
    """A ratio in percent, never rounded up to all or down to nothing."""
    if 0.0 < ratio < 0.001:  # noqa: PLR2004  (a tenth of a percent)
        return "under 0.1 %"
    if 0.999 < ratio < 1.0:  # noqa: PLR2004
        return "over 99.9 %"
    return f"{100.0 * ratio:.1f} %".replace(".0 %", " %")


def moment(unix_s: float) -> str:
    """A moment in UTC, to the second."""
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def plain(text: str, longest: int = LONGEST_NAME) -> str:
    """A name that a stranger gave: what is not printable is escaped, what is too long is cut."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."
