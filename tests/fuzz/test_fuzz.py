"""Half a minute of `make fuzz`."""

import subprocess
import sys

from tests.conftest import ROOT


def test_half_a_minute_of_generated_inputs_breaks_no_promise() -> None:
    words = [sys.executable, "-m", "tests.fuzz", "--seconds", "30", "--first", "1000000"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout[-6_000:] + ended.stderr[-2_000:]
