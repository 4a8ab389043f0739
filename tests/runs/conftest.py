"""Runs made by hand, and runs that were trained."""

from tests.report.conftest import make_run
from tests.training.conftest import run

__all__ = ["make_run", "run"]
