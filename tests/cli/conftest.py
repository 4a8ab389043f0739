"""Runs made by hand."""

from tests.report.conftest import make_run

__all__ = ["make_run"]
