"""What a provider told, looked at once more before it is kept: whoever wrote the parser, nonsense prices nothing."""

import math
from collections.abc import Sequence
from dataclasses import replace

from monitor.core.model import Intensity
from monitor.errors import FeedError
from monitor.grid.feed import About, Ask, Reply
from monitor.grid.reply import HIGHEST_GRAMS_PER_KILOWATTHOUR

LONGEST_SLOT_S = 400 * 86_400.0
"""A yearly value, and some."""


def checked(
    about: About, ask: Ask, reply: Reply, told: Sequence[Intensity]
) -> tuple[list[Intensity], FeedError | None]:
    """Those that can be intensities of the zone, complete; and why others were left out. Raises FeedError."""
    sound: list[Intensity] = []
    odd: list[Intensity] = []
    for value in told:
        (sound if _is_sound(value) and value.zone == ask.zone else odd).append(value)
    left_out = None
    if odd:
        first = odd[0]
        left_out = FeedError(
            f"{about.title} gave {first.grams_per_kilowatthour!r} g/kWh for {first.zone} over "
            f"{first.valid_until_s - first.valid_from_s:g} s, which is no intensity of {ask.zone}: it is left out",
            reason="value",
        )
    if not sound:
        raise left_out or FeedError(f"{about.title} has no value of {ask.zone} for what was asked", reason="empty")
    values = [
        replace(
            value,
            fetched_at_s=reply.received_at_s if value.fetched_at_s is None else value.fetched_at_s,
            detail=value.detail or about.credit,
        )
        for value in sound
    ]
    return values, left_out


def _is_sound(value: Intensity) -> bool:
    """Whether it can be an intensity over a slot. 0 is legal, NaN is nothing."""
    return (
        0.0 <= value.grams_per_kilowatthour <= HIGHEST_GRAMS_PER_KILOWATTHOUR
        and math.isfinite(value.valid_from_s)
        and 0.0 < value.valid_until_s - value.valid_from_s <= LONGEST_SLOT_S
    )
