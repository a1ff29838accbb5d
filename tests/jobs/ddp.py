"""A rank of a data-parallel training run on the CPU (gloo). Usage, under torchrun: ddp.py STEPS [SECONDS_A_STEP]."""

import sys
import time

import torch
from torch import distributed, nn

import trainwatt

BATCH = 32
TOKENS = 1000


def main() -> None:
    """Train so many steps, in step with the other ranks, and tell them."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    model = nn.parallel.DistributedDataParallel(nn.Linear(64, 64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    steps = int(sys.argv[1])
    pace_s = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    with trainwatt.run(name="inside"):
        for step in range(steps):
            ends_s = time.monotonic() + pace_s
            optimizer.zero_grad()
            model(torch.randn(BATCH, 64)).square().mean().backward()
            optimizer.step()
            trainwatt.step(tokens=TOKENS, samples=BATCH)
            trainwatt.progress(step + 1, steps)
            time.sleep(max(0.0, ends_s - time.monotonic()))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
