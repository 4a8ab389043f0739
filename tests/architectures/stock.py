"""What gptft did with a model, held to what stock transformers does with the same files.

In: the folder of a base, and of a finished run on it. Out: a sentence for every difference.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from gptft import api
from gptft.data.store import BlockStore
from gptft.models.load import load_for_inference
from tests.architectures.parts import parts_by_class
from tests.conftest import SENTENCES

COLUMNS = ("loss", "reopened", "greedy", "parameters")
"""What is compared, in the order of the table."""

UNSHIFTED = (
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "mvp",
    "pegasus", "plbart", "trocr", "whisper", "xlm", "xlnet",
)  # fmt: skip
"""Architectures whose stock loss compares each token with the label at its own place."""

NO_LOSS = {
    "git": "that of stock's logits; its own leaves out as many tokens as an image has",
    "prophetnet": "that of stock's logits; its own is also of the token after the next",
}
"""Architectures whose stock loss isn't that of a text, each with what is compared instead."""

_BATCH = 8  # the Trainer's default of per_device_eval_batch_size
_TOLERANCE = 1e-5  # of a loss in float32, whose sums over some hundred tokens are in another order
_NEW_TOKENS = 12
_PROMPT = SENTENCES[0][:4]


def differences(
    model_type: str, base: Path, run_dir: Path, *, changes: dict[str, Any]
) -> dict[str, list[str]]:
    """How gptft measures, saves, continues and counts otherwise than stock transformers.

    Args:
        model_type: the architecture.
        base: what was trained.
        run_dir: the finished run.
        changes: of the base's config.

    Returns:
        sentences by column of the table; a column without any is right.
    """
    return {
        "loss": [
            *_loss_of_base(model_type, base, run_dir, changes),
            *_loss_of_model(model_type, run_dir),
        ],
        "reopened": list(_reopened(run_dir)),
        "greedy": list(_greedy(run_dir)),
        "parameters": list(_parameters(base)),
    }


def _stock(folder: Path, **changes: Any) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder, **changes)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32
    )
    return model.eval()


def _told(run_dir: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    return facts


def _blocks(run_dir: Path) -> list[torch.Tensor]:
    """The blocks of the validation split, of shape (T,) each."""
    store = Path(os.environ["GPTFT_CACHE"], "blocks", _told(run_dir)["data"]["store"])
    return [
        torch.from_numpy(block.astype("int64")) for block in BlockStore(store, split="validation")
    ]


def _loss_of_base(
    model_type: str, base: Path, run_dir: Path, changes: dict[str, Any]
) -> Iterator[str]:
    """The loss before training."""
    stock = _loss(_stock(base, **changes), _blocks(run_dir), shifts=model_type not in UNSHIFTED)
    told = _told(run_dir)["result"]["validation"]["loss_before"]
    if abs(stock - told) > _TOLERANCE * stock:
        yield f"the base's loss is {stock:.7f}, not {told:.7f}"


def _loss_of_model(model_type: str, run_dir: Path) -> Iterator[str]:
    """The loss after training, of the model that was kept; and what it lost."""
    loaded: Any = AutoModelForCausalLM.from_pretrained(run_dir / "model", output_loading_info=True)
    model, info = loaded
    if lost := [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]:
        yield f"{len(lost)} tensors of model/ are lost: {lost[0]}"
    blocks = _blocks(run_dir)
    stock = _loss(model.eval(), blocks, shifts=model_type not in UNSHIFTED)
    told = _told(run_dir)["result"]["validation"]["loss_after"]
    if abs(stock - told) > _TOLERANCE * stock:
        yield f"the model's loss is {stock:.7f}, not {told:.7f}"
    if (ahead := _looks_ahead(model, blocks[0])) > 1e-4:
        yield f"it looks ahead, by {ahead:.1g}"


@torch.no_grad()
def _loss(model: PreTrainedModel, blocks: list[torch.Tensor], *, shifts: bool) -> float:
    """The mean loss a predicted token, as stock gives it for batches with padding at the right.

    Args:
        model: in eval mode.
        blocks: of shape (T,), the last one perhaps shorter.
        shifts: whether the model compares each token with the label after it.
    """
    total, predicted = 0.0, 0
    for start in range(0, len(blocks), _BATCH):
        batch = blocks[start : start + _BATCH]
        ids = pad_sequence(batch, batch_first=True)  # (B, T), 0 where there is no token
        labels = pad_sequence(batch, batch_first=True, padding_value=-100)
        if not shifts:
            labels = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)
        torch.manual_seed(0)
        number = sum(len(block) - 1 for block in batch)
        if model.config.model_type in NO_LOSS:
            logits = model(input_ids=ids, use_cache=False).logits  # (B, T, V)
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].mT, labels[:, 1:])
        else:
            loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        total += number * float(loss)
        predicted += number
    return total / predicted


@torch.no_grad()
def _looks_ahead(model: Any, block: torch.Tensor) -> float:
    """How far a few logits move, at most, when the tokens after them are others."""
    some = block[:16]  # beyond that, Reformer chooses by all tokens what each attends to
    changed = torch.cat([some[:8], some[8:].flip(0) + 1])
    one, other = (
        model(input_ids=ids[None], use_cache=False).logits[0, :8] for ids in (some, changed)
    )
    return float((one - other).abs().max())


@torch.no_grad()
def _reopened(run_dir: Path) -> Iterator[str]:
    """The logits of the model that was kept, opened by stock and by gptft: bit for bit."""
    block = _blocks(run_dir)[0]
    models = (
        _stock(run_dir / "model"),
        load_for_inference(str(run_dir), device=torch.device("cpu")),
    )
    found = []
    for model in models:
        torch.manual_seed(0)
        found.append(model(input_ids=block[None], use_cache=False).logits)
    if not torch.equal(*found):
        yield f"logits differ by {float((found[0] - found[1]).abs().max()):.2g}"


@torch.no_grad()
def _greedy(run_dir: Path) -> Iterator[str]:
    """The most probable tokens after a few words: `gptft generate` and stock `generate`."""
    torch.manual_seed(0)
    settings = {"strategy": "greedy", "max_new_tokens": _NEW_TOKENS}
    (ours,) = api.generate(str(run_dir), [_PROMPT], given=settings, use_cpu=True).texts
    model = _stock(run_dir / "model")
    ids = torch.tensor([ours.prompt_ids])
    torch.manual_seed(0)
    # Stock also does what a model's own generation_config.json asks for, such as BART's forced EOS.
    ends = model.generation_config.eos_token_id
    own = GenerationConfig(
        max_new_tokens=_NEW_TOKENS, do_sample=False, eos_token_id=ends, pad_token_id=0
    )
    # Nor can stock make a cache for BLT, whose config has several numbers of layers.
    own.use_cache = model.config.model_type != "blt"
    model.generation_config = own
    out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=own)
    theirs = out[0, ids.shape[1] :].tolist()
    if ours.stopped == "eos" and theirs:
        theirs.pop()
    if list(ours.new_ids) != theirs:
        yield f"greedy wrote {list(ours.new_ids)}, and stock {theirs}"


def _parameters(base: Path) -> Iterator[str]:
    """What `gptft info` counts by the headers, and what stock transformers builds."""
    model = _stock(base)
    counted = api.info(str(base)).models[0].parameters
    if counted is None:
        yield "gptft info counts none"
        return
    total, parts = sum(one.numel() for one in model.parameters()), parts_by_class(model)
    if counted.total != total:
        yield f"gptft info counts {counted.total:,} parameters, and there are {total:,}"
    elif dict(counted.parts) != dict(parts):
        other = {
            name: number for name, number in parts.items() if counted.parts.get(name) != number
        }
        yield f"gptft info counts {dict(counted.parts)}, by part, and there are {other}"
