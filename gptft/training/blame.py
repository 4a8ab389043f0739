"""An error that a library raised -> the setting of the user's that it acted on, if there is one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

from gptft.errors import ConfigError, GptftError
from gptft.files import is_disk_full
from gptft.terminal.commands import with_our_extras
from gptft.terminal.words import short_value

# Settings that hand work to a part of a library, and the modules of that part, which stand in the
# traceback where it fails (transformers 5.23, torch 2.8). The innermost wins, and of one part the
# setting that is named first.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "deepspeed": ("deepspeed", "transformers.integrations.deepspeed", "accelerate.utils.deepspeed"),
    "use_liger_kernel": ("liger_kernel", "transformers.integrations.liger"),
    "fsdp": ("torch.distributed.fsdp", "transformers.integrations.fsdp"),
    **dict.fromkeys(
        ("torch_compile_backend", "torch_compile_mode", "torch_compile"),
        ("torch._dynamo", "torch._inductor", "torch._functorch", "triton"),
    ),
    # torch.optim.lr_scheduler isn't there: it wraps every step of an optimizer.
    "lr_scheduler_kwargs": ("transformers.optimization",),
    "lr_scheduler_type": ("transformers.optimization",),
    "gradient_checkpointing_kwargs": ("torch.utils.checkpoint",),
    "optim_args": ("torch.optim", "bitsandbytes", "schedulefree", "galore_torch", "torchao"),
    "optim": ("torch.optim", "bitsandbytes", "schedulefree", "galore_torch", "torchao"),
    "report_to": (
        "transformers.integrations.integration_utils", "wandb", "mlflow", "trackio", "comet_ml",
        "clearml", "swanlab", "torch.utils.tensorboard", "tensorboard",
    ),
    "dataloader_num_workers": ("torch.utils.data", "multiprocessing"),
}  # fmt: skip
_OFF: tuple[Any, ...] = (None, False, "", "no", "none", [], {}, ["none"])


@contextmanager
def blaming_settings(training: Mapping[str, Any]) -> Iterator[None]:
    """Let an error of a library end as one of the setting that asked for its work.

    Args:
        training: the settings that are set, of that section.

    Raises:
        ConfigError: the setting, its value, and what the library says.
    """
    try:
        yield
    except Exception as error:
        explained = blamed(error, training)
        if explained is error:
            raise
        raise explained from error


def blamed(error: BaseException, training: Mapping[str, Any]) -> BaseException:
    """The error to raise: itself, where no setting is to blame."""
    if isinstance(error, GptftError) or not isinstance(error, Exception) or is_disk_full(error):
        return error
    name = _setting_behind(error, training)
    if name is None:
        return error
    said = " ".join(with_our_extras(str(error)).split()).rstrip(".") or type(error).__name__
    return ConfigError(
        f"training.{name}: {short_value(training[name])} doesn't work here: {said}. Change it or "
        "leave it out."
    )


def _setting_behind(error: Exception, training: Mapping[str, Any]) -> str | None:
    """The setting whose part of a library is innermost in the traceback."""
    set_up = {name: parts for name, parts in _PARTS.items() if training.get(name) not in _OFF}
    modules = [str(frame.f_globals.get("__name__")) for frame, _ in walk_tb(error.__traceback__)]
    for module in reversed(modules):
        for name, parts in set_up.items():
            if any(module == part or module.startswith(f"{part}.") for part in parts):
                return name
    return None
