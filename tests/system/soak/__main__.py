"""`make soak ARGS="--seconds 600 --seed 1"`: mixed traffic with random faults, for a time.

Prints at its start how to repeat the run. What the callers ask and what is done to processes
follows from the seed; in which moment it meets does not.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys

from tests.system.soak.run import soak


def main() -> int:
    """Run it, print the report, and give 1 where there is a problem."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long (60)")
    parser.add_argument("--seed", type=int, help="repeat what was asked with this one")
    options = parser.parse_args()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    print(f"soaking: --seconds {options.seconds:g} --seed {seed}", flush=True)
    result = asyncio.run(soak(options.seconds, seed))
    print(result.report(), flush=True)
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
