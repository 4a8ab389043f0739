"""Tiny tokenizers that put BOS, or another token, before a text, and models of theirs."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tests.conftest import SENTENCES

SPECIAL = ("<unk>", "<s>", "</s>")  # ids 0, 1, 2, as Llama's
BOS, EOS = 1, 2
NAMES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
LLAMA, OPT, GPT2 = "<s> $A", "</s> $A", None  # what stands around a text


def byte_level(template: str | None) -> Tokenizer:
    """A byte-level BPE with a template of its own."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES * 4, trainer)
    if template is not None:
        named = [(token, SPECIAL.index(token)) for token in SPECIAL if token in template]
        backend.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=named
        )
    return backend


def write_tokenizer(folder: Path, template: str | None, **config: object) -> Path:
    """A folder with a tokenizer.json, its config, and a config.json that says what model it is."""
    folder.mkdir(parents=True, exist_ok=True)
    byte_level(template).save(str(folder / "tokenizer.json"))
    settings = {**NAMES, "tokenizer_class": "PreTrainedTokenizerFast", **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    if not (folder / "config.json").exists():
        (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    return folder


def write_model(folder: Path, template: str | None, *, context: int = 64) -> Path:
    """A model folder: a seeded Llama with 2 layers, and a tokenizer with this template."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=context,
        initializer_range=0.25,  # so that every token matters to the next
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return write_tokenizer(folder, template)
