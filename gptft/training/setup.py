"""A config and a block store -> the model, its blocks and the Trainer, checked together."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_callback import PrinterCallback

from gptft.config.sections import Config
from gptft.config.training_fields import DEFAULT_NGRAM_SIZE
from gptft.config.training_notices import sample_notices, training_notices
from gptft.data.recital import Passage, find_passages
from gptft.data.store import BlockStore, read_ledger
from gptft.errors import ConfigError, DataError, ModelError, RunError
from gptft.models.causal_probe import check_causal, leaves_labels_to_be_moved
from gptft.models.hub import find_model
from gptft.models.load import context_of, load_config
from gptft.models.quantized import is_quantized
from gptft.terminal.words import count
from gptft.tokenization.framing import keeps_apart
from gptft.training.arguments import training_arguments
from gptft.training.base import freeze_base, is_elsewhere, load_base, make_adapter
from gptft.training.dataset import (
    BlockDataset,
    CutEachEpoch,
    collator_of,
    spread_indices,
)
from gptft.training.document_masking import check_document_masking
from gptft.training.early_stopping import EarlyStopping
from gptft.training.epoch_blocks import epoch_blocks
from gptft.training.evaluation import Measured
from gptft.training.figures import predicted_bytes
from gptft.training.kept_weights import KeptWeights
from gptft.training.lean_layers import use_lean_layers
from gptft.training.loss import loss_of_output
from gptft.training.memorized import stop_when_memorized
from gptft.training.mixed_precision import mixed_precision_notes
from gptft.training.moving_average import MovingAverage
from gptft.training.signals import Signals
from gptft.training.trainer import BlockTrainer
from gptft.training.unlikelihood import Unlikelihood
from gptft.training.weight_decay import MoveWeightDecay, decay_schedule

_FIT_BLOCKS = 64  # training blocks measured before and after: enough to see fit, quick at any size


@dataclass(frozen=True)
class Setup:
    """What a run works with.

    Attributes:
        base_config: of the base as it is stored; None of a new model.
        fit: the blocks that are measured before and after.
        notes: sentences on what could not be had as asked, or was made for it.
    """

    trainer: BlockTrainer
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    store: BlockStore
    store_dir: Path
    ledger: Mapping[str, Any]
    base_config: PreTrainedConfig | None
    fit: BlockDataset
    validation: BlockDataset | None
    notes: tuple[str, ...]

    @property
    def num_parameters(self) -> int:
        """Weights of the model, trained or not; those of an adapter aren't its own."""
        if self.trainer.lora is not None:
            return self.trainer.lora.num_base
        return sum(p.numel() for p in self.model.parameters())

    @property
    def num_trained(self) -> int:
        """Weights that are trained."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    @property
    def trained_words(self) -> str:
        """How much is trained, in words."""
        base = count(self.num_parameters, "parameter")
        if self.trainer.lora is not None:
            how = f" ({self.trainer.lora.quantize})" if self.trainer.lora.quantize else ""
            return f"an adapter of {self.num_trained:,} beside {base}{how}"
        is_whole = self.num_trained == self.num_parameters
        return base if is_whole else f"{self.num_trained:,} of {base}"

    @property
    def dtype(self) -> str:
        """What the weights are trained in."""
        return str(self.model.dtype).removeprefix("torch.")

    def length(self) -> tuple[int, float]:
        """The steps and the epochs of the whole run."""
        loader = self.trainer.get_train_dataloader()
        _, steps_an_epoch, *_, steps = self.trainer.set_initial_training_values(
            self.trainer.args, loader
        )
        return int(steps), steps / steps_an_epoch

    def num_steps(self) -> int:
        """The steps of the whole run."""
        return self.length()[0]

    def notices(self, config: Config) -> list[str]:
        """Sentences on settings that may not mean, in a run of this length, what was expected."""
        num_steps, num_epochs = self.length()
        found = training_notices(
            config.training,
            num_steps=num_steps,
            num_epochs=num_epochs,
            num_blocks=len(self.store),
            num_processes=self.trainer.args.world_size,
        )
        said = [*self.notes, *(sentence for _, sentence in found)]
        return [*said, *sample_notices(config.samples.steps, num_steps)]

    def passages(self, asked: bool | int | None) -> list[Passage]:
        """What of the training text is to be recited; see `find_passages`."""
        if not asked:
            return []
        return find_passages(
            self.store,
            asked=asked,
            tokenizer=self.tokenizer.backend_tokenizer,
            eos_token_id=int(self.ledger.get("eos_token_id", -1)),
            bos=tuple(self.ledger.get("bos_token_ids", ())),
        )

    def release(self) -> None:
        """Give back what the accelerator holds."""
        if self.trainer.optimizer is not None:  # it is in a cycle of references, and so would stay
            self.trainer.optimizer.state.clear()
        self.trainer.kept.release()
        self.trainer.accelerator.free_memory()
        if not is_quantized(self.model):  # which can't be moved
            self.model.to("cpu")  # type: ignore[arg-type]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def measure(self) -> tuple[Measured, Measured | None]:
        """The model as it is now, on the training text and on the validation part."""
        validation = self._measure(self.validation) if self.validation else None
        return self._measure(self.fit), validation

    def _measure(self, blocks: BlockDataset) -> Measured:
        num_bytes = predicted_bytes(blocks, self.tokenizer, cast(Any, self.trainer.data_collator))
        return replace(self.trainer.measure(blocks), num_bytes=num_bytes)


def set_up(config: Config, *, store_dir: Path, run_dir: Path, signals: Signals) -> Setup:
    """Load all a run needs, and refuse what doesn't go together."""
    store, ledger = BlockStore(store_dir), read_ledger(store_dir) or {}
    has_validation = bool(ledger.get("validation_documents"))
    args = training_arguments(
        config.training, run_dir=run_dir, has_validation=has_validation, dtype=config.model.dtype,
        block_size=store.block_size,
    )  # fmt: skip
    eos, bos = int(ledger.get("eos_token_id", -1)), tuple(ledger.get("bos_token_ids", ()))
    model, tokenizer, grown, new_ids = load_base(
        config, store_dir=store_dir, eos_token_id=eos, bos_token_ids=bos,
        chat=ledger.get("chat") or {}, args=args,
    )  # fmt: skip
    if getattr(model, "loss_type", None) is None:  # of which transformers warns, and takes this one
        model.loss_type = "ForCausalLM"
    _check_fit(model, store, name=config.model.name)
    lora = make_adapter(config, model, args, new_ids=new_ids)
    frozen = freeze_base(config, model, args, has_new=bool(new_ids))
    name = "The new model" if config.model.from_scratch is not None else config.model.name
    # Before the Trainer, which makes the run folder.
    loss_is_replaced = _probe(model, args, name=name)
    masks, notes = _masks(config, model, args, ledger=ledger, name=name)
    packing = ledger.get("packing", "stream")
    epochs = epoch_blocks(
        config.data, store, packing=packing, seed=args.seed, eos_token_id=eos, bos=bos,
        isolated=masks,
    )  # fmt: skip
    faster = mixed_precision_notes(args, config.training)
    notes = (*grown, *frozen, *notes, *epochs.notes, *faster)
    unlikelihood = _unlikelihood(config.training, eos_token_id=eos)
    loss = partial(loss_of_output, unlikelihood=unlikelihood)
    use_lean_layers(model, args)
    set_seed(args.seed)
    validation = BlockDataset(BlockStore(store_dir, split="validation")) if has_validation else None
    trainer = BlockTrainer(
        model=model,
        signals=signals,
        unlikelihood=unlikelihood,
        lora=lora,
        kept=_kept(config.training, model),
        early_stopping=_early_stopping(config.training),
        compute_loss_func=loss if loss_is_replaced else None,
        args=args,
        data_collator=cast(Any, collator_of(store, apart=masks, eos_token_id=eos, bos=bos)),
        train_dataset=epochs.blocks,
        eval_dataset=validation,
        callbacks=[CutEachEpoch(epochs.by_epoch)] if epochs.by_epoch is not None else [],
    )
    trainer.remove_callback(PrinterCallback)
    if schedule := decay_schedule(config.training):
        names = trainer.get_decay_parameter_names(model)
        trainer.add_callback(MoveWeightDecay(schedule, model=model, decay_names=names))
    if config.training.get("stop_when_memorized"):
        notes += stop_when_memorized(
            trainer, store, signals, ledger=ledger, shifted=epochs.is_shifted,
            isolated=masks or epochs.is_shuffled,  # else what stands before a document is chance
        )  # fmt: skip
    fit = BlockDataset(store, indices=spread_indices(len(store), at_most=_FIT_BLOCKS))
    base = _base_config(config)
    return Setup(trainer, model, tokenizer, store, store_dir, ledger, base, fit, validation, notes)


def _base_config(config: Config) -> PreTrainedConfig | None:
    if config.model.from_scratch is not None:
        return None
    return load_config(find_model(config.model.name, revision=config.model.revision).folder)


def _masks(
    config: Config,
    model: PreTrainedModel,
    args: TrainingArguments,
    *,
    ledger: Mapping[str, Any],
    name: str,
) -> tuple[bool, tuple[str, ...]]:
    """Whether documents of a block are kept from seeing each other, and what to say of it.

    Raises:
        ModelError: that was asked for, and the model can't.
    """
    packing = ledger.get("packing", "stream")
    asked = config.data.isolation(packing) if config.data is not None else False
    if not are_masked(config, ledger):
        return False, ()
    if is_elsewhere(model, args):  # FSDP may leave the weights to the first process
        return asked is True, ()
    try:
        with _enough_memory(name):
            check_document_masking(model, name=name)
    except ModelError:
        if asked is True:
            raise
        return False, (
            f"{name} ({model.config.model_type}) can't keep the documents of a block apart: they "
            "see each other (data.isolate_documents: auto).",
        )
    return True, ()


def are_masked(config: Config, ledger: Mapping[str, Any]) -> bool:
    """Whether documents of a block are to be kept from seeing each other, if the model can."""
    packing = ledger.get("packing", "stream")
    return keeps_apart(
        config.data.isolation(packing) if config.data is not None else False,
        packing=packing,
        bos=ledger.get("bos_token_ids", ()),
        eos_token_id=int(ledger.get("eos_token_id", -1)),
        num_documents=int(ledger.get("documents", 0)) - int(ledger.get("validation_documents", 0)),
    )


def _unlikelihood(training: Mapping[str, Any], *, eos_token_id: int) -> Unlikelihood | None:
    """What a repetition costs, where it costs anything."""
    if not (weight := training.get("unlikelihood_weight")):
        return None
    ngram_size = training.get("unlikelihood_ngram_size", DEFAULT_NGRAM_SIZE)
    return Unlikelihood(weight, ngram_size, eos_token_id)


def _kept(training: Mapping[str, Any], model: PreTrainedModel) -> KeptWeights:
    """What is to become the model of the run."""
    number, decay = training.get("average_checkpoints") or 0, training.get("ema_decay")
    if decay is None:
        return KeptWeights(number=int(number))
    is_kept = bool(training.get("ema_save", True))
    return KeptWeights(MovingAverage(model, decay=decay, is_kept=is_kept), number=int(number))


def _early_stopping(training: Mapping[str, Any]) -> EarlyStopping | None:
    if (patience := training.get("early_stopping_patience")) is None:
        return None
    return EarlyStopping(int(patience), training.get("early_stopping_threshold", 0.0))


def _probe(model: PreTrainedModel, args: TrainingArguments, *, name: str) -> bool:
    """Refuse a model that sees ahead; whether its own loss must be replaced."""
    if is_elsewhere(model, args):
        return False
    with _enough_memory(name):
        if args.place_model_on_device is not False and not args.fsdp and not is_quantized(model):
            model.to(args.device)  # type: ignore[arg-type]
        check_causal(model, name=name)
        # Label smoothing replaces it anyway.
        return not (args.label_smoothing_factor or leaves_labels_to_be_moved(model))


@contextmanager
def _enough_memory(name: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        why = f"Out of memory with {name} and a few tokens"
        raise RunError(f"{why}. Take a smaller model, or model.dtype: bfloat16.") from error


def _check_fit(model: PreTrainedModel, store: BlockStore, *, name: str) -> None:
    """Refuse blocks the model would fail on with an IndexError in mid-run."""
    if not len(store):
        raise DataError("The block store holds no block. Prepare it again.")
    context, longest = context_of(model), store.block_size
    if context is not None and longest > context:
        raise ConfigError(
            f"Blocks of {longest:,} tokens are longer than the context of {name}, {context:,}. "
            f"Use data.block_size: {context} or less."
        )
    num_ids = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    if (highest := store.max_token_id()) >= num_ids:
        raise ModelError(
            f"The blocks hold token id {highest:,}, and {name} has {num_ids:,} embeddings. "
            "Its tokenizer belongs to another model."
        )
