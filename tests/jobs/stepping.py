"""A job that times what `trainwatt` takes of its steps. Prints one JSON document; with the socket of its environment.

stepping.py cost SECONDS: microseconds of a call in a loop of nothing else, and of one every 10 ms of work: mean, worst.
stepping.py pairs GROUPS SIZE: seconds that a step of training takes with the call and without, by turns.
"""

import json
import random
import statistics
import sys
import time
from collections.abc import Callable

import trainwatt

PACE_S = 0.01
WIDTH = 24
LEARNING_RATE = 0.01


class Model:
    """A linear model that learns a plane by gradient descent, in plain Python: the work of a step, about a ms."""

    def __init__(self) -> None:
        """Made up, the same each time."""
        chance = random.Random(0)
        self.weights = [0.0] * WIDTH
        self.batch = [[chance.gauss(0.0, 1.0) for _ in range(WIDTH)] for _ in range(128)]
        self.targets = [sum(row) for row in self.batch]

    def train(self) -> None:
        """One step."""
        gradient = [0.0] * WIDTH
        for row, target in zip(self.batch, self.targets):  # noqa: B905  (Python 3.8, too)
            error = sum(map(float.__mul__, row, self.weights)) - target
            gradient = [slope + error * value for slope, value in zip(gradient, row)]  # noqa: B905
        rate = LEARNING_RATE / len(self.batch)
        self.weights = [weight - rate * slope for weight, slope in zip(self.weights, gradient)]  # noqa: B905


def busy(seconds: float) -> dict[str, float]:
    """Nothing but steps: what is between two messages, and the messages' part."""
    steps, began_s = 0, time.perf_counter()
    while time.perf_counter() - began_s < seconds:
        for _ in range(1000):
            trainwatt.step(tokens=4096, samples=8)
        steps += 1000
    return {"mean_us": 1e6 * (time.perf_counter() - began_s) / steps}


def nothing(n: int = 1, tokens: int = 0, samples: int = 0) -> None:
    """The least that a call can be."""


def paced(model: Model, call: Callable[..., None], seconds: float) -> dict[str, float]:
    """A call each 10 ms of work, which leaves the caches cold."""
    took_s, ends_s = [], time.perf_counter() + seconds
    while time.perf_counter() < ends_s:
        work_s = time.perf_counter() + PACE_S
        while time.perf_counter() < work_s:
            model.train()
        began_s = time.perf_counter()
        call(tokens=4096, samples=8)
        took_s.append(time.perf_counter() - began_s)
    return {
        "mean_us": 1e6 * sum(took_s) / len(took_s),
        "median_us": 1e6 * statistics.median(took_s),
        "worst_us": 1e6 * max(took_s),
    }


def timed(model: Model, *, told: bool) -> float:
    """Seconds that a step takes."""
    began_s = time.perf_counter()
    model.train()
    if told:
        trainwatt.step(tokens=4096, samples=8)
    return time.perf_counter() - began_s


def pairs(model: Model, groups: int, size: int) -> list[tuple[float, float]]:
    """Mean seconds of a step with and without, by groups of pairs in which they are first by turns."""
    made = []
    for _ in range(groups):
        ours_s = theirs_s = 0.0
        for number in range(size):
            ours_first = number % 2 == 0
            first_s, second_s = timed(model, told=ours_first), timed(model, told=not ours_first)
            ours_s += first_s if ours_first else second_s
            theirs_s += second_s if ours_first else first_s
        made.append((ours_s / size, theirs_s / size))
    return made


def main() -> None:
    """Measure as asked."""
    model = Model()
    with trainwatt.run("bench"):
        pairs(model, 1, 200)
        if sys.argv[1] == "cost":
            seconds = float(sys.argv[2])
            told = {
                "busy": busy(seconds),
                "paced": paced(model, trainwatt.step, seconds),
                "bare": paced(model, nothing, seconds / 2),
            }
        else:
            told = {"pairs_s": pairs(model, int(sys.argv[2]), int(sys.argv[3]))}
        told["stats"] = trainwatt.stats()
    print(json.dumps(told))  # noqa: T201  (this is how it answers)


main()
