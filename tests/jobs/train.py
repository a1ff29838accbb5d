"""A small training run on the CPU whose phases make the stand-in's GPUs draw power: steps, evaluation, checkpoint.

Usage: train.py CONFIG GPUS REPORT. CONFIG is the stand-in's configuration, which it takes over; REPORT is where it
writes, at its end, its edges (CLOCK_BOOTTIME, s) and the true joules of each GPU between any two of its phases.
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn

from tests.drivers.nvml import FakeDriver, FakeGpu
from tests.drivers.waveform import Const, Square, Wave

EPOCHS = 3
STEPS_S, EVALUATION_S = 5.0, 2.0
IDLE = Const(70.0)


def main() -> None:
    """Train, and drive the GPUs."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    gpus = int(sys.argv[2])
    driver = FakeDriver(
        Path(sys.argv[1]), [FakeGpu(counter_period_s=0.05, counter_phase_s=0.01 * gpu) for gpu in range(gpus)]
    )
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    data, labels = torch.randn(4096, 64), torch.randint(0, 10, (4096,))
    begin_s, phases, steps, losses = driver.now_s(), [], 0, []

    def phase(name: str, wave: Wave) -> float:
        start_s = driver.now_s()
        for gpu in range(gpus):
            driver.wave(gpu, start_s, wave)
        phases.append((name, start_s))
        return start_s

    for _epoch in range(EPOCHS):
        start_s = phase("steps", Square(period_s=0.31, duty=0.7, high_w=640.0, low_w=210.0))
        while driver.now_s() < start_s + STEPS_S:
            batch = torch.randint(0, len(data), (128,))
            loss = nn.functional.cross_entropy(model(data[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            steps += 1
        start_s = phase("evaluation", Const(380.0))
        with torch.no_grad():
            while driver.now_s() < start_s + EVALUATION_S:
                losses.append(float(nn.functional.cross_entropy(model(data), labels)))
        phase("checkpoint", Const(120.0))
        torch.save(model.state_dict(), Path(sys.argv[3]).with_suffix(".pt"))
    phase("idle", IDLE)
    end_s = driver.now_s()
    Path(sys.argv[3]).write_text(
        json.dumps(
            {
                "begin_s": begin_s,
                "end_s": end_s,
                "steps": steps,
                "losses": [losses[0], losses[-1]],
                "phases": phases,
                "true_j": [driver.true_energy_j(gpu, begin_s, end_s) for gpu in range(gpus)],
            }
        )
    )


main()
