"""CUDA_VISIBLE_DEVICES: what a job sees of the GPUs it was given."""

import pytest

from monitor.core.visible import visible_devices

A, B, C = "GPU-4e81aaaa-0", "GPU-4e81bbbb-1", "GPU-9f00cccc-2"
S1, S2 = "MIG-1111", "MIG-2222"
LEGACY = f"MIG-{A}/1/0"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (None, (A, B, C)),
        ("", ()),
        ("0,2", (A, C)),
        ("2,0", (C, A)),
        (" 1 , 0 ", (B, A)),
        (B, (B,)),
        ("GPU-9f00", (C,)),
        ("GPU-4e81", ()),  # fits two
        ("GPU-4e81b,0", (B, A)),
        ("0,-1,1", (A,)),  # the list ends at the first invalid entry
        ("0,7,1", (A,)),
        ("NoDevFiles", ()),
        ("0,0", ()),  # a duplicate names none
        (f"0,{A}", ()),
        (S2, (S2,)),
        ("MIG-1", (S1,)),
        (f"{S1},{S2}", (S1, S2)),
        (LEGACY, (LEGACY,)),
        ("MIG-GPU-nothing/1/0", ()),
        ("MIG-9", ()),
        ("PU-4e81b", ()),  # `lstrip("MIG-")` made this of a UUID elsewhere
        ("void", ()),
        ("none", ()),
        ("\N{ARABIC-INDIC DIGIT ZERO}", ()),  # only ASCII digits are an index
    ],
)
def test_the_grammar(text: str | None, seen: tuple[str, ...]) -> None:
    """Indexes, UUIDs, beginnings of UUIDs, MIG UUIDs old and new; empty is none; the first invalid entry ends it."""
    assert seen == visible_devices(text, [A, B, C], {A: [LEGACY], C: [S1, S2]})
