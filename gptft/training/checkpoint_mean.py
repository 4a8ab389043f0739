"""The last checkpoints of a run -> the mean of their weights, in the model.

Source: Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization"
(1803.05407).
"""

from collections.abc import Iterable, Mapping

import torch

from gptft.errors import RunError
from gptft.models.restore import stored_weights
from gptft.runs.checkpoints import due_checkpoints, find_damage
from gptft.training.trainer_adapter import TrainerAdapter

Tensors = dict[str, torch.Tensor]


@torch.no_grad()
def take_mean(trainer: TrainerAdapter, number: int) -> list[int]:
    """Let the model, or the adapter in it, be the mean of the last checkpoints that were due.

    Args:
        trainer: with a checkpoint of its last step; called by all processes together.
        number: of how many; fewer where there are no more.

    Returns:
        their steps, ascending; empty where there is but one, whose weights the model has.

    Raises:
        RunError: one of them is damaged.
    """
    trainer.wait_for_commit()
    found = due_checkpoints(trainer.checkpoints_dir, step=trainer.state.global_step)[:number][::-1]
    if len(found) < 2:
        return []
    for checkpoint in found:
        if damage := find_damage(checkpoint.path):
            raise RunError(
                f"{checkpoint.path}, one of the {len(found)} to be averaged, can't be used: "
                f"{damage}. Keep the last weights: --resume --set "
                "training.average_checkpoints=null."
            )
    model, lora = trainer.accelerator.unwrap_model(trainer.model), trainer.lora
    if lora is not None:
        lora.fill(mean_of(lora.stored(one.path) for one in found))
    else:
        mean = mean_of(stored_weights(model, one.path) for one in found)
        for name, tensor in model.state_dict().items():
            tensor.copy_(mean[name])
    return [one.step for one in found]


def mean_of(states: Iterable[Mapping[str, torch.Tensor]]) -> Tensors:
    """The mean of tensors by name, made in float32; what isn't of floats is the last one's.

    One state is held at a time. Where all are equal the mean is, bit for bit, as what is frozen
    must stay.

    >>> mean_of([{"a": torch.tensor([1.0, 0.1])}, {"a": torch.tensor([3.0, 0.1])}])
    {'a': tensor([2.0000, 0.1000])}
    """
    means: Tensors = {}
    for number, state in enumerate(states, start=1):
        for name, tensor in state.items():
            if name not in means or not tensor.is_floating_point():
                means[name] = tensor.float() if tensor.is_floating_point() else tensor
            else:
                means[name] = means[name] + (tensor.float() - means[name]) / number
    return means
