"""The tiny model that decoding is tested on."""

from tests.decoding.conftest import model, model_dir, tokenizer

__all__ = ["model", "model_dir", "tokenizer"]
