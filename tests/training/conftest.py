from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from gptft.config.sections import Config
from gptft.data.plan import plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.training.general import Measurer
from gptft.training.recital import Reciter
from gptft.training.result import TrainResult
from gptft.training.run import Resume
from gptft.training.train import train_model
from tests.architectures.models import save_tiny_model

Run = Callable[..., TrainResult]


def fixed_sampler(model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """A sampler that tells which prompt it saw, without generating."""
    return [f" <- {prompt}" for prompt in prompts]


def fixed_reciter(
    model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], lengths: Sequence[int]
) -> list[str]:
    """A reciter that tells how much it was given and asked for, without generating."""
    return [f" {len(ids)} + {n}" for ids, n in zip(prompts, lengths, strict=True)]


@pytest.fixture
def run(tmp_path: Path, tiny_model_dir: Path, corpus_dir: Path) -> Run:
    """Train the tiny model on the tiny corpus: `run(name, section={...}, ...)`."""

    def train(
        name: str = "run",
        *,
        overwrite: bool = False,
        resume: Resume | None = None,
        reciter: Reciter = fixed_reciter,
        measurer: Measurer | None = None,
        notify: Callable[[str], None] = lambda message: None,
        **sections: dict[str, Any],
    ):
        config = Config.model_validate(
            {
                "model": {"name": str(tiny_model_dir)},
                **sections,
                "data": {"train": [str(corpus_dir)], "block_size": 32, **sections.get("data", {})},
                "training": {
                    "max_steps": 3,
                    "logging_steps": 1,
                    "learning_rate": 1e-3,
                    "per_device_train_batch_size": 2,
                    "save_strategy": "no",
                    "use_cpu": True,
                    **sections.get("training", {}),
                },
            }
        )
        return train_model(
            config,
            store_dir=prepare_blocks(plan_packing(config)).path,
            run_dir=tmp_path / name,
            sampler=fixed_sampler,
            reciter=reciter,
            measurer=measurer,
            console=Console(quiet=True),
            overwrite=overwrite,
            resume=resume,
            notify=notify,
        )

    return train


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model of each architecture that is asked for."""
    folder = tmp_path_factory.mktemp("bases")

    def base(kind: str) -> Path:
        if not (folder / kind).exists():
            (folder / kind).mkdir()
            torch.manual_seed(7)
            save_tiny_model(kind, folder / kind)
        return folder / kind

    return base
