"""What the `training` section becomes on a CPU."""

from pathlib import Path

import pytest
import torch

from gptft.errors import ConfigError
from gptft.training import arguments
from gptft.training.arguments import training_arguments


def test_bfloat16_on_a_cpu_is_taken_where_it_is_fast_and_refused_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def arguments_for_bf16() -> tuple[bool, bool]:
        args = training_arguments(
            {"bf16": True}, run_dir=tmp_path, has_validation=False, dtype="auto"
        )
        return args.bf16, args.use_cpu

    monkeypatch.setattr(arguments, "pick_device", lambda **kwargs: torch.device("cpu"))
    monkeypatch.setattr(arguments, "has_native_bfloat16", lambda device: True)
    assert arguments_for_bf16() == (True, True)
    monkeypatch.setattr(arguments, "has_native_bfloat16", lambda device: False)
    with pytest.raises(ConfigError, match=r"bfloat16 instructions.*training\.bf16: false"):
        arguments_for_bf16()
