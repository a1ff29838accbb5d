"""The document between two trainwatts: what goes in comes out, and nothing of it is trusted."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.model import Basis, Intensity, Quality, Signal
from monitor.core.wire import intensities_of, intensity_document

VALUE = Intensity(
    zone="DE",
    grams_per_kilowatthour=342.0,
    basis=Basis.LIFECYCLE,
    quality=Quality.ESTIMATED,
    provider="electricitymaps",
    valid_from_s=1_795_262_400.0,
    valid_until_s=1_795_266_000.0,
)
FINITE = st.floats(-1e12, 1e12)
WORDS = st.text(max_size=20).map(lambda text: " ".join(text.split()))
VALUES = st.builds(
    Intensity,
    zone=st.just("DE"),
    grams_per_kilowatthour=st.floats(0.0, 2500.0),
    basis=st.sampled_from(Basis),
    quality=st.sampled_from(Quality),
    provider=st.from_regex(r"[a-z][a-z0-9_-]{0,31}", fullmatch=True),
    signal=st.sampled_from(Signal),
    valid_from_s=st.floats(0.0, 1e9),
    valid_until_s=st.floats(2e9, 3e9),
    detail=WORDS,
    fetched_at_s=st.none() | FINITE,
    updated_at_s=st.none() | FINITE,
    made_by=WORDS,
    dataset=WORDS,
)


@given(values=st.lists(VALUES, max_size=4))
def test_a_round_trip(values: list[Intensity]) -> None:
    """Every field survives JSON, to the bit."""
    text = json.dumps(intensity_document(values, zone="DE"), allow_nan=False)

    assert values == intensities_of(json.loads(text))


def test_what_holds_for_ever_is_left_out() -> None:
    """JSON has no number for it, and everybody has the yearly tables."""
    for_ever = replace(VALUE, quality=Quality.STATIC, valid_from_s=-math.inf, valid_until_s=math.inf)
    document = intensity_document([VALUE, for_ever])

    assert "DE" == document["zone"]
    assert [VALUE] == intensities_of(document)


def test_fields_that_are_not_known_are_passed_over() -> None:
    """So that a newer one can be asked by an older one; words for people may be missing, too."""
    document = intensity_document([VALUE])
    document["values"][0]["colour"] = "green"
    document["more"] = 1
    for name in ("detail", "made_by", "dataset", "fetched_at_s", "updated_at_s"):
        del document["values"][0][name]

    assert [VALUE] == intensities_of(document)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("grams_per_kilowatthour", None, "grams_per_kilowatthour = None: expected a finite number"),
        ("grams_per_kilowatthour", "342", "grams_per_kilowatthour = '342'"),
        ("grams_per_kilowatthour", True, "grams_per_kilowatthour = True"),
        ("grams_per_kilowatthour", -0.1, "expected 0 or more"),
        ("grams_per_kilowatthour", math.nan, "grams_per_kilowatthour = nan"),
        ("grams_per_kilowatthour", 10**400, "grams_per_kilowatthour = a int"),
        ("valid_from_s", 1_795_266_000.0, "expected more than valid_from_s"),
        ("valid_until_s", math.inf, "valid_until_s = inf"),
        ("fetched_at_s", "now", "fetched_at_s = 'now'"),
        ("zone", "FR", "a value of 'FR' among those of 'DE'"),
        ("zone", None, "zone = None: expected str"),
        ("provider", "Elec tricity", "provider = 'Elec tricity'"),
        ("provider", "x" * 99, "..."),
        ("quality", "guessed", "quality = 'guessed': expected one of actual, estimated"),
        ("basis", 5, "basis = 5: expected str"),
        ("signal", "", "signal = ''"),
    ],
)
def test_a_field_that_is_wrong(field: str, value: Any, says: str) -> None:
    """It is named, on one line."""
    document = intensity_document([VALUE])
    document["values"][0][field] = value

    with pytest.raises(ValueError) as refused:  # noqa: PT011  (what it says is looked at)
        intensities_of(document)

    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("document", [None, [], 5, {}, {"zone": "DE"}, {"zone": 5, "values": []}, {"values": []},
                                      {"zone": "DE", "values": {}}, {"zone": "DE", "values": [None]}])  # fmt: skip
def test_another_document(document: Any) -> None:
    """It is refused, whatever it is."""
    with pytest.raises(ValueError, match="expected"):
        intensities_of(document)
