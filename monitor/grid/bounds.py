"""What a provider told, looked at once more before it is kept: whoever wrote the parser, nonsense prices nothing."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from monitor.core.model import Intensity
from monitor.errors import FeedError
from monitor.grid.feed import About, Ask, Reply
from monitor.grid.reply import HIGHEST_GRAMS_PER_KILOWATTHOUR

SHORTEST_SLOT_S = 60.0
MOST_AT_ONCE = 24
"""Values of one answer that speak for one moment: several providers, bases and signals of a relay, and some."""
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
    if _most_at_once(sound) > MOST_AT_ONCE:
        raise FeedError(
            f"{about.title} gave more than {MOST_AT_ONCE} values of {ask.zone} for one moment: nothing of it is used",
            reason="content",
        )
    values = [
        replace(
            value,
            fetched_at_s=reply.received_at_s if value.fetched_at_s is None else value.fetched_at_s,
            detail=value.detail or about.credit,
        )
        for value in sound
    ]
    return values, left_out


def _most_at_once(values: Sequence[Intensity]) -> int:
    edges = [edge for one in values for edge in ((one.valid_from_s, 1), (one.valid_until_s, -1))]
    return max(accumulate(step for _at_s, step in sorted(edges)), default=0)


def _is_sound(value: Intensity) -> bool:
    """Whether it can be an intensity over a slot. 0 is legal, NaN is nothing."""
    return (
        0.0 <= value.grams_per_kilowatthour <= HIGHEST_GRAMS_PER_KILOWATTHOUR
        and math.isfinite(value.valid_from_s)
        and SHORTEST_SLOT_S <= value.valid_until_s - value.valid_from_s <= LONGEST_SLOT_S
    )
