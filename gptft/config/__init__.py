"""YAML -> frozen, typed sections, with every problem at its line and column."""

from gptft.config.load import load_config
from gptft.config.sections import Config

__all__ = ["Config", "load_config"]
