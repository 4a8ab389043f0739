"""A model whose next token is far from random, so that strategies differ and texts end."""

from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from gptft.tokenization.tokenizer import save_tokenizer
from gptft.tokenization.trainers import train_bpe

VERSES = (
    "Мороз и солнце; день чудесный! Ещё ты дремлешь, друг прелестный.",
    "Буря мглою небо кроет, вихри снежные крутя.",
)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2 with 2 layers, context 48 and 300 ids, of which 0 is EOS, BOS and nothing else."""
    folder = tmp_path_factory.mktemp("sharp")
    tokenizer = train_bpe(iter(VERSES * 2), vocab_size=300, min_frequency=2)
    save_tokenizer(tokenizer, folder, model_max_length=48)
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size,
        n_layer=2,
        n_head=2,
        n_embd=32,
        n_positions=48,
        initializer_range=0.25,
        eos_token_id=0,
        bos_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def model(model_dir: Path) -> PreTrainedModel:
    """The model in eval mode, loaded anew: a test may change it."""
    return AutoModelForCausalLM.from_pretrained(model_dir).eval()


@pytest.fixture(scope="session")
def tokenizer(model_dir: Path) -> PreTrainedTokenizerBase:
    """Its tokenizer: byte-level, EOS but no PAD."""
    return AutoTokenizer.from_pretrained(model_dir)
