"""A job that does work for a while and tells how far it is. Usage: steps.py SECONDS [EXIT_CODE]."""

import sys
import time

import trainwatt


def main() -> None:
    """Spin, a step each 10 ms; the last fifth is evaluation."""
    seconds = float(sys.argv[1])
    began_s = time.monotonic()
    trainwatt.phase("train")
    steps = 0
    while (done_s := time.monotonic() - began_s) < seconds:
        if done_s > 0.8 * seconds:
            trainwatt.phase("eval")
        ends_s = time.monotonic() + 0.01
        while time.monotonic() < ends_s:
            pass
        steps += 1
        trainwatt.step(tokens=1000)
        trainwatt.progress(done_s, seconds)
    sys.stdout.write(f"{steps}\n")
    sys.exit(int(sys.argv[2]) if len(sys.argv) > 2 else 0)


if __name__ == "__main__":
    main()
