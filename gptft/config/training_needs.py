"""A `training` section -> what it needs and this machine, or this process, hasn't got.

Only asks whether a package is there: nothing is imported, so that a config is checked in no time.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gptft.config.suggest import did_you_mean
from gptft.config.training_fields import OWN_OPTIMIZERS, FieldProblem
from gptft.files import read_json_value
from gptft.inputs import parse_json
from gptft.terminal.commands import install_command

# Trackers of report_to, each with the module it needs and what pip calls it.
_TRACKERS = {
    "azure_ml": ("azureml.core.run", "azureml-core"),
    "clearml": ("clearml", "clearml"),
    "codecarbon": ("codecarbon", "codecarbon"),
    "comet_ml": ("comet_ml", "comet-ml"),
    "dagshub": ("dagshub", "dagshub mlflow"),
    "dvclive": ("dvclive", "dvclive"),
    "flyte": ("flytekit", "flytekit"),
    "kubeflow": ("kubeflow", "kubeflow"),
    "mlflow": ("mlflow", "mlflow"),
    "neptune": ("neptune", "neptune"),
    "swanlab": ("swanlab", "swanlab"),
    "tensorboard": ("tensorboard", "tensorboard"),
    "trackio": ("trackio", "trackio"),
    "wandb": ("wandb", "wandb"),
}
_OLDEST = {"mlflow": 3}  # by its tracker, the first number of a version that works
# Optimizers that aren't in torch or transformers, by the beginning of their names.
_OPTIMIZERS = {
    "galore": ("galore_torch", "galore-torch"),
    "apollo": ("apollo_torch", "apollo-torch"),
    "lomo": ("lomo_optim", "lomo-optim"),
    "adalomo": ("lomo_optim", "lomo-optim"),
    "grokadamw": ("grokadamw", "grokadamw"),
    "stable_adamw": ("optimi", "torch-optimi"),
    "schedule_free": ("schedulefree", "schedulefree"),
    "adamw_torch_4bit": ("torchao", "torchao"),
    "adamw_torch_8bit": ("torchao", "torchao"),
    "adamw_torch_xla": ("torch_xla", "torch_xla"),
    "adamw_torch_npu": ("torch_npu", "torch_npu"),
    "adamw_anyprecision": ("torchdistx", "torchdistx"),
    **dict.fromkeys(
        ("adamw_8bit", "adamw_bnb", "ademamix", "lion", "paged", "rmsprop_bnb"),
        ("bitsandbytes", "bitsandbytes"),
    ),
}
# Compilers of torch_compile_backend, and the module each needs besides torch.
_COMPILERS: dict[str, str | None] = {
    **dict.fromkeys(("eager", "aot_eager", "inductor", "cudagraphs"), None),
    "onnxrt": "onnxruntime",
    "tensorrt": "torch_tensorrt",
    "tvm": "tvm",
    "openxla": "torch_xla",
    "hpu_backend": "habana_frameworks",
    "neuron": "torch_neuronx",
}
_COMPILE_MODES = (
    "default",
    "lite",
    "reduce-overhead",
    "max-autotune",
    "max-autotune-no-cudagraphs",
)
SLOW_BFLOAT16 = (
    "needs bfloat16 instructions, which this CPU doesn't have: it would be 30 to 200 times slower "
    "than in float32. Set training.bf16: false."
)
FSDP_ON_CPU = (
    "needs GPUs: without them accelerate drops it, and each process holds the whole model. "
    "Leave it out."
)
UNSCALED = (
    "training.unlikelihood_weight: float16 logits need a loss that is scaled. "
    "Use bf16, or model.dtype: float32."
)
_DEBUG_OPTIONS = ("underflow_overflow", "tpu_metrics_debug")


def unmet_needs(training: Mapping[str, Any]) -> list[FieldProblem]:
    """What a `training` section needs that isn't there.

    Args:
        training: the fields that are set, each of a right type.

    Returns:
        (field, message) pairs; the message follows the field's full name.
    """
    found: list[FieldProblem] = []
    for need in (_trackers, _optimizer, _libraries, _compiler, _files, _processes, _hub):
        found += need(training)
    return found


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a parent package is missing
        return False


def _missing(module: str, package: str) -> str | None:
    if _is_there(module):
        return None
    return f"needs the package {module.partition('.')[0]}. Install it: {install_command(package)}"


def _trackers(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    named = training.get("report_to", "none")
    names = named if isinstance(named, list) else [named]
    if names in (["none"], ["all"], []):
        return
    for name in names:
        if not isinstance(name, str) or name not in _TRACKERS:
            hint = did_you_mean(str(name), _TRACKERS) or f"Take one of {', '.join(_TRACKERS)}."
            yield "report_to", f"can't be {name}. {hint}"
        elif problem := _missing(*_TRACKERS[name]) or _too_old(name):
            yield "report_to", f"{name} {problem}"


def _too_old(tracker: str) -> str | None:
    """Why an installed tracker can't be used: pip takes mlflow 1.27 beside pandas 3."""
    if tracker not in _OLDEST:
        return None
    try:
        found = version(tracker)
    except PackageNotFoundError:  # it may be installed under another name
        return None
    oldest = _OLDEST[tracker]
    if int(found.partition(".")[0]) >= oldest:
        return None
    command = f"pip install '{tracker}>={oldest}'"
    return f"is {found} here, and fails below {oldest}. Install a newer one: {command}"


def _optimizer(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    optim = training.get("optim", "")
    if optim in OWN_OPTIMIZERS:
        return
    for beginning, (module, package) in _OPTIMIZERS.items():
        if optim.startswith(beginning) and (problem := _missing(module, package)):
            yield "optim", f"{optim} {problem}"


def _libraries(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    for name, module, package in (
        ("deepspeed", "deepspeed", "deepspeed"),
        ("use_liger_kernel", "liger_kernel", "liger-kernel"),
    ):
        if training.get(name) and (problem := _missing(module, package)):
            yield name, problem
    options = training.get("debug") or []
    for option in options.split() if isinstance(options, str) else options:
        if option not in _DEBUG_OPTIONS:
            yield "debug", f"can't be {option}. Take one of {', '.join(_DEBUG_OPTIONS)}."
        elif option == "tpu_metrics_debug" and (problem := _missing("torch_xla", "torch_xla")):
            yield "debug", f"{option} {problem}"


def _compiler(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    backend, mode = training.get("torch_compile_backend"), training.get("torch_compile_mode")
    if backend is not None:
        if backend not in _COMPILERS:
            why = f"can't be {backend!r}. Take one of {', '.join(_COMPILERS)}."
            yield "torch_compile_backend", why
        elif (module := _COMPILERS[backend]) and (problem := _missing(module, module)):
            yield "torch_compile_backend", f"{backend} {problem}"
    if mode is not None and mode not in _COMPILE_MODES:
        yield "torch_compile_mode", f"can't be {mode!r}. Take one of {', '.join(_COMPILE_MODES)}."
    compiles = training.get("torch_compile") or mode is not None
    if (backend or "inductor") == "inductor" and (compiles or backend):
        compilers = (os.environ.get("CXX", "g++"), "clang++", "cl")
        if not any(map(shutil.which, compilers)):
            yield "torch_compile", "needs a C++ compiler, and there is none on PATH. Install g++."


def _files(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    """Settings that may name a JSON file."""
    for name in ("accelerator_config", "deepspeed", "fsdp_config"):
        value = training.get(name)
        if not isinstance(value, str) or (name == "fsdp_config" and not training.get("fsdp")):
            continue
        try:
            _ = parse_json(value) if value.startswith("{") else read_json_value(Path(value))
        except OSError as error:
            yield name, f"names {value!r}, which can't be read: {error.strerror}."
        except ValueError as error:
            yield name, f"is not JSON: {error}."


def _processes(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    if "RANK" in os.environ or "LOCAL_RANK" in os.environ:
        return
    why = "needs several processes, and this is one. Start it by torchrun, or leave it out."
    yield from ((name, why) for name in ("fsdp", "ddp_backend") if training.get(name))


def _hub(training: Mapping[str, Any]) -> Iterator[FieldProblem]:
    if training.get("push_to_hub"):
        from huggingface_hub import constants, get_token

        if constants.HF_HUB_OFFLINE:
            yield "push_to_hub", "needs the model hub, and HF_HUB_OFFLINE is set. Unset it."
        elif not (training.get("hub_token") or get_token()):
            yield "push_to_hub", "needs a token of the model hub. Log in: hf auth login"
