"""What fails in a library because of a setting is told of that setting, without a traceback."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from gptft.cli.app import app
from gptft.errors import ConfigError, RunError
from gptft.training.blame import blamed, blaming_settings


def failure(module: str, error: Exception) -> Callable[[], None]:
    """A function that raises an error and says it is of a module."""
    scope = {"__name__": module, "error": error}
    exec("def fail():\n    raise error", scope)
    return scope["fail"]  # type: ignore[return-value]


CASES = [
    ({"torch_compile": True}, "torch._inductor.codegen.cpp", "torch_compile: true"),
    ({"torch_compile": True}, "torch._dynamo", "torch_compile: true"),
    (
        {"torch_compile": True, "torch_compile_mode": "max-autotune"},
        "torch._inductor",
        "torch_compile_mode: max-autotune",
    ),
    ({"deepspeed": "ds.json"}, "transformers.integrations.deepspeed", "deepspeed: ds.json"),
    ({"optim": "lion_8bit"}, "bitsandbytes.optim", "optim: lion_8bit"),
    ({"optim": "adamw_torch", "optim_args": "x=1"}, "torch.optim.adamw", "optim_args: x=1"),
    ({"report_to": ["wandb"]}, "wandb.sdk.lib", "report_to: [wandb]"),
    ({"lr_scheduler_kwargs": {"a": 1}}, "transformers.optimization", "lr_scheduler_kwargs: {a: 1}"),
    ({"use_liger_kernel": True}, "liger_kernel.ops", "use_liger_kernel: true"),
    ({"dataloader_num_workers": 2}, "torch.utils.data.dataloader", "dataloader_num_workers: 2"),
]


@pytest.mark.parametrize(("training", "module", "named"), CASES)
def test_the_setting_is_named(training: dict[str, object], module: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught, blaming_settings(training):
        failure(module, ValueError("it is\nbroken."))()
    said = f"training.{named} doesn't work here: it is broken. Change it or leave it out."
    assert str(caught.value) == said
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("off", [None, False, "", "none", [], ["none"], {}])
def test_a_setting_that_is_off_is_not_to_blame(off: object) -> None:
    with pytest.raises(ValueError, match="broken"), blaming_settings({"torch_compile": off}):
        failure("torch._dynamo", ValueError("broken"))()


def test_what_is_not_of_such_a_part_stays_what_it_is() -> None:
    training = {"torch_compile": True, "lr_scheduler_type": "cosine", "report_to": "tensorboard"}
    for module in ("torch.nn.modules", "torch.optim.lr_scheduler", "gptft.training.run", "torch"):
        with pytest.raises(ValueError, match="broken"), blaming_settings(training):
            failure(module, ValueError("broken"))()


def test_errors_of_ours_and_a_full_disk_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(28, "No space left on device")
    for error in (RunError("ours"), full, KeyboardInterrupt()):
        assert blamed(error, {"torch_compile": True}) is error


def test_the_advice_of_a_library_is_our_extra() -> None:
    with (
        pytest.raises(ConfigError, match=r'pip install "gptft\[track\]"'),
        blaming_settings({"report_to": "tensorboard"}),
    ):
        failure("tensorboard", RuntimeError("requires it: pip install tensorboard>=2.0"))()


def test_through_the_command_line(
    in_tmp: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.compile that fails in the first step ends as a fault of that setting, exit code 2."""
    Path("poem.txt").write_text("Буря мглою небо кроет " * 20, encoding="utf-8")
    fail = failure("torch._inductor.cpp_builder", RuntimeError("C++ compile error"))
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_, **__: fail())
    monkeypatch.setattr("gptft.config.training_needs._compiler", lambda training: [])
    config = {
        "model": {"name": str(tiny_model_dir)},
        "data": {"train": "poem.txt"},
        "training": {"max_steps": 1, "use_cpu": True, "torch_compile": True},
    }
    Path("my.yaml").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setattr("torch.compile", lambda model, **_: model)
    done = CliRunner().invoke(app, ["train", "my.yaml"])
    assert isinstance(done.exception, ConfigError), repr(done.exception)
    assert "training.torch_compile: true doesn't work here: C++ compile error" in str(
        done.exception
    )
    facts = json.loads(Path("runs/my/run.json").read_text(encoding="utf-8"))
    assert facts["state"] == "failed"
    assert facts["error"].startswith("training.torch_compile")


def test_a_scheduler_that_takes_no_such_argument(in_tmp: Path, tiny_model_dir: Path) -> None:
    Path("poem.txt").write_text("Буря мглою небо кроет " * 20, encoding="utf-8")
    setting = "training.lr_scheduler_kwargs={foo:1}"  # YAML needs a space behind the colon
    words = ["train", "poem.txt", "--model", str(tiny_model_dir), "--use-cpu", "--set", setting]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, ConfigError), repr(done.exception)
    assert "training.lr_scheduler_kwargs" in str(done.exception)
