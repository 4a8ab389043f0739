"""How long threads that compute wait for each other awake, told before anything loads them."""

from collections.abc import MutableMapping

# Turns of GNU's OpenMP, whose own 300,000 are ten milliseconds: longer than a thread is left alone
# on a busy machine, so that one waits for another that waits for its place. A step takes up to
# twenty times as long then; 20,000 lose a few per cent where nothing else runs, and no more where
# something does (docs/experiments.md).
_TURNS = "20000"
_CHOICES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Let threads of GNU's OpenMP sleep soon, unless the environment says how they are to wait."""
    if not any(name in environment for name in _CHOICES):
        environment["GOMP_SPINCOUNT"] = _TURNS
