"""The soak, for as long as there is time."""

from __future__ import annotations

import random
import subprocess
import sys

from tests.support.harness import PATIENCE, SCALE
from tests.support.paths import ROOT

SECONDS = 600 if SCALE >= 10 else 10


def test_nothing_is_wrong_or_lost_in_mixed_traffic_with_random_faults() -> None:
    # In its own process: grpc.aio supports one event loop per process.
    seed = random.randrange(2**32)
    done = subprocess.run(
        [sys.executable, "-m", "tests.system.soak", "--seconds", str(SECONDS), "--seed", str(seed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS + 5 * PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
