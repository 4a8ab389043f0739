"""What the commands do, one function each, joining rooms that know nothing of each other.

A function is imported when it is first named, so that naming one loads no room that it doesn't use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptft.analysis.score import text_score as score
    from gptft.api.check import check_config
    from gptft.api.configs import (
        config_schema,
        default_config,
        generation_config,
        load_config,
        read_config,
    )
    from gptft.api.copies import novelty
    from gptft.api.generation import compare, generate, predict
    from gptft.api.tokens import tokenize
    from gptft.api.training import prepare, prepare_shard, train
    from gptft.inspection.audit import audit_tokenizer
    from gptft.inspection.counts import count_tokens
    from gptft.inspection.merges import trace_merges
    from gptft.inspection.vocabulary import search_vocabulary, summarize_vocabulary
    from gptft.runs.status import list_runs
    from gptft.runs.verify import verify_runs
    from gptft.tokenization.extension import extend_tokenizer
    from gptft.tokenization.tokenizer import load_tokenizer
    from gptft.tokenization.training import train_on_corpus as train_tokenizer

__all__ = [
    "audit_tokenizer", "check_config", "compare", "config_schema", "count_tokens",
    "default_config", "extend_tokenizer", "generate", "generation_config", "list_runs",
    "load_config", "load_tokenizer", "novelty", "predict", "prepare", "prepare_shard",
    "read_config", "score", "search_vocabulary", "summarize_vocabulary", "tokenize",
    "trace_merges", "train", "train_tokenizer", "verify_runs",
]  # fmt: skip

# Where each function is, under which name if it is another there.
_HOMES = {
    "audit_tokenizer": "gptft.inspection.audit",
    "check_config": "gptft.api.check",
    "compare": "gptft.api.generation",
    "config_schema": "gptft.api.configs",
    "count_tokens": "gptft.inspection.counts",
    "default_config": "gptft.api.configs",
    "extend_tokenizer": "gptft.tokenization.extension",
    "generate": "gptft.api.generation",
    "generation_config": "gptft.api.configs",
    "list_runs": "gptft.runs.status",
    "load_config": "gptft.api.configs",
    "load_tokenizer": "gptft.tokenization.tokenizer",
    "novelty": "gptft.api.copies",
    "predict": "gptft.api.generation",
    "prepare": "gptft.api.training",
    "prepare_shard": "gptft.api.training",
    "read_config": "gptft.api.configs",
    "score": "gptft.analysis.score:text_score",
    "search_vocabulary": "gptft.inspection.vocabulary",
    "summarize_vocabulary": "gptft.inspection.vocabulary",
    "tokenize": "gptft.api.tokens",
    "trace_merges": "gptft.inspection.merges",
    "train": "gptft.api.training",
    "train_tokenizer": "gptft.tokenization.training:train_on_corpus",
    "verify_runs": "gptft.runs.verify",
}

if not TYPE_CHECKING:  # a type checker is to read the imports above, not that every name is there

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, _, named = _HOMES[name].partition(":")
        function = getattr(import_module(module), named or name)
        globals()[name] = function
        return function
