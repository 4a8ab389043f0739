"""What every test stands on: no network, no shared cache, tiny tokenizers and models."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("GPTFT_BF16", "false")  # figures are of float32, whatever the CPU
os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"
os.environ["TERMINAL_WIDTH"] = "100"
os.environ["TOKENIZERS_PARALLELISM"] = "true"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: a second thread only waits
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts a job in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
PICO_RECIPES = ROOT / "gptft" / "models" / "pico" / "recipes"
SHARED_CORPUS = ROOT.parent / "shared" / "corpus" / "ru-classics"

# Two stanzas' worth of text with every letter a tiny tokenizer needs; public domain.
SENTENCES = (
    "Буря мглою небо кроет, вихри снежные крутя;",
    "То, как зверь, она завоет, то заплачет, как дитя.",
    "The quick brown fox jumps over the lazy dog; 42 times, or 7.",
    "Выпьем с горя; где же кружка? Сердцу будет веселей.",
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test prepares into a cache of its own."""
    monkeypatch.setenv("GPTFT_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _own_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `gptft.cli.main` makes of Ctrl-C is for a process of its own."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder: GPT-2 with 2 layers, context 64, seeded, and a byte-level BPE tokenizer."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from gptft.tokenization.tokenizer import save_tokenizer
    from gptft.tokenization.trainers import train_bpe

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = train_bpe(iter(SENTENCES * 4), vocab_size=320, min_frequency=2)
    save_tokenizer(tokenizer, folder, model_max_length=64)
    torch.manual_seed(0)
    eos = tokenizer.require_eos()
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size,
        n_layer=2,
        n_head=2,
        n_embd=32,
        n_positions=64,
        eos_token_id=eos,
        bos_token_id=eos,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def corpus_dir(tmp_path: Path) -> Path:
    """A folder of four short texts, one sentence each, named 0.txt to 3.txt."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, sentence in enumerate(SENTENCES):
        (folder / f"{number}.txt").write_text(sentence, encoding="utf-8")
    return folder


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the test from an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
