"""Ids carry their scope; names are bounded and cleaned."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.runs import identity
from monitor.runs.identity import Origin, clean, clean_id, clean_tags, job_id, launcher, run_id, scoped

OWN = Origin("0123456789abcdef", 40, 700)
ABOVE = Origin("0123456789abcdef", 39, 600)
SLURM = {"SLURM_JOB_ID": "77", "SLURM_CLUSTER_NAME": "deep"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "tree-01234567-40-700"),
        ({"LOCAL_RANK": "1"}, "tree-01234567-39-600"),
        ({"TRAINWATT_RUN": " mine "} | SLURM, "mine"),
        ({"TRAINWATT_RUN": ""} | SLURM, "slurm-deep-77"),
        ({"SLURM_JOB_ID": "77"}, "slurm-cluster-77"),
        ({"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "7"} | SLURM, "slurm-deep-70_7"),
        ({"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "0"} | SLURM, "slurm-deep-70_0"),
        ({"TORCHELASTIC_RUN_ID": "abc", "LOCAL_RANK": "0"} | SLURM, "slurm-deep-77"),
        ({"TORCHELASTIC_RUN_ID": "abc", "LOCAL_RANK": "0"}, "torchrun-abc"),
        ({"TORCHELASTIC_RUN_ID": "none", "LOCAL_RANK": "0"}, "tree-01234567-39-600"),
        ({"TORCHELASTIC_RUN_ID": ""}, "tree-01234567-40-700"),
    ],
)
def test_an_id_comes_from_the_nearest_that_names_one(environment: dict[str, str], expected: str) -> None:
    """What the user gave, the scheduler, the launcher, the process tree, in this order; workers share their agent's."""
    assert expected == run_id(environment, OWN, ABOVE)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ""),
        ({"LOCAL_RANK": "1"}, ""),
        ({"TRAINWATT_RUN": " mine "} | SLURM, "given:7:mine"),
        (SLURM, "slurm:77"),
        ({"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "7"} | SLURM, "slurm:77"),
        ({"TORCHELASTIC_RUN_ID": "abc"} | SLURM, "slurm:77"),
        ({"TORCHELASTIC_RUN_ID": "abc"}, "torchrun:7:abc"),
        ({"TORCHELASTIC_RUN_ID": "none"}, ""),
    ],
)
def test_a_key_is_of_what_the_id_is_of(environment: dict[str, str], expected: str) -> None:
    """By the same precedence; a job by its raw number, and what a user named as that user's."""
    assert expected == identity.key(environment, 7)


def test_a_key_is_bounded() -> None:
    """However long the name is; two that differ at their ends stay two."""
    one, other = (identity.key({"TRAINWATT_RUN": "x" * 9999 + end}, 7) for end in "12")

    assert one != other
    assert len(one) == len("given:7:") + identity.LONGEST_ID


def test_the_launcher_is_known_by_its_variables() -> None:
    """Slurm before torchrun, which may run in it; the number of a task of an array is that of both."""
    assert ("slurm", "77") == (launcher({"TORCHELASTIC_RUN_ID": "x"} | SLURM), job_id(SLURM))
    assert ("torchrun", "") == (launcher({"TORCHELASTIC_RUN_ID": "none"}), job_id({}))
    assert launcher({"TRAINWATT_RUN": "x"}) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", ("plain", False)),
        ('with "quotes" \\ and ☃', ('with "quotes" \\ and ☃', False)),
        ("  outside  ", ("outside", True)),
        ("two\nlines\tand\x00more", ("two lines and more", True)),
        ("a\u2028b\x85c\u202ed", ("a b c d", True)),
        ("half \ud800", ("half \ufffd", True)),
        ("was latin-1: M\ufffdller", ("was latin-1: M\ufffdller", True)),
        ("x" * 24, ("x" * 24, False)),
        ("x" * 25, ("x" * 23 + "…", True)),
        ("\n\n", ("", True)),
    ],
)
def test_a_name_is_cleaned(text: str, expected: tuple[str, bool]) -> None:
    """One line, no control characters, no half characters, bounded; quotes stay; what had to be done is told."""
    assert expected == clean(text, 24)


@given(st.text(st.characters(), max_size=300), st.integers(8, 100))
def test_a_clean_name_is_fit(text: str, longest: int) -> None:
    """Whatever it was, it is short, can be encoded, has no line break, and cleaning it again changes nothing."""
    fit, altered = clean(text, longest)

    assert len(fit) <= longest
    assert [fit] == (fit.encode().decode().splitlines() or [""])
    assert (fit, "\ufffd" in fit) == clean(fit, longest)
    assert altered == (fit != text or "\ufffd" in fit)


def test_long_ids_stay_apart() -> None:
    """Two ids that differ at their far ends are two runs, also as another user's; each is bounded."""
    one, other = clean_id("x" * 10_000 + "1")[0], clean_id("x" * 10_000 + "2")[0]

    assert one != other
    assert len(one) == len(other) == identity.LONGEST_ID
    assert scoped(one, "ann") != scoped(other, "ann")
    assert len(scoped(one, "a" * 64)) == identity.LONGEST_ID
    assert scoped("short", "ann") == "short@ann"
    assert clean_id("short") == ("short", False)


def test_tags_are_bounded() -> None:
    """Thirty-two of them, sorted; what is left out or changed is counted once each."""
    tags, altered = clean_tags({f"k{index:03}": "v" for index in reversed(range(40))} | {"": "no name", "a\nb": "c"})

    assert 32 == len(tags)
    assert sorted(tags) == list(tags)
    assert 8 + 2 == altered
    assert ((("a b", "c" * 199 + "…"),), 2) == clean_tags({"a\nb": "c" * 500})
