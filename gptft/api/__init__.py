"""What the commands do, one function each, joining rooms that know nothing of each other.

A function is imported when it is first named, so that naming one loads no room that it doesn't use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptft.api.check import check_config as check_config
    from gptft.api.configs import config_schema as config_schema
    from gptft.api.configs import default_config as default_config
    from gptft.api.configs import generation_config as generation_config
    from gptft.api.configs import load_config as load_config
    from gptft.api.configs import read_config as read_config
    from gptft.api.copies import novelty as novelty
    from gptft.api.evaluation import evaluate as evaluate
    from gptft.api.evaluation import evaluate_tasks as evaluate_tasks
    from gptft.api.explanations import explain as explain
    from gptft.api.generation import compare as compare
    from gptft.api.generation import generate as generate
    from gptft.api.generation import predict as predict
    from gptft.api.merging import merge as merge
    from gptft.api.models import info as info
    from gptft.api.planning import plan as plan
    from gptft.api.playground import play as play
    from gptft.api.runs import compare_runs as compare_runs
    from gptft.api.runs import show_run as show_run
    from gptft.api.scores import score as score
    from gptft.api.sweeps import train_sweep as train_sweep
    from gptft.api.tokens import tokenize as tokenize
    from gptft.api.training import prepare as prepare
    from gptft.api.training import prepare_shard as prepare_shard
    from gptft.api.training import train as train
    from gptft.inspection.audit import audit_tokenizer as audit_tokenizer
    from gptft.inspection.counts import count_tokens as count_tokens
    from gptft.inspection.merges import trace_merges as trace_merges
    from gptft.inspection.vocabulary import search_vocabulary as search_vocabulary
    from gptft.inspection.vocabulary import summarize_vocabulary as summarize_vocabulary
    from gptft.runs.follow import follow_run as follow_run
    from gptft.runs.status import list_runs as list_runs
    from gptft.runs.verify import verify_runs as verify_runs
    from gptft.tokenization.extension import extend_tokenizer as extend_tokenizer
    from gptft.tokenization.tokenizer import load_tokenizer as load_tokenizer
    from gptft.tokenization.training import train_tokenizer as train_tokenizer

# Where each function is.
_HOMES = {
    "audit_tokenizer": "gptft.inspection.audit",
    "check_config": "gptft.api.check",
    "compare": "gptft.api.generation",
    "compare_runs": "gptft.api.runs",
    "config_schema": "gptft.api.configs",
    "count_tokens": "gptft.inspection.counts",
    "default_config": "gptft.api.configs",
    "evaluate": "gptft.api.evaluation",
    "evaluate_tasks": "gptft.api.evaluation",
    "explain": "gptft.api.explanations",
    "extend_tokenizer": "gptft.tokenization.extension",
    "follow_run": "gptft.runs.follow",
    "generate": "gptft.api.generation",
    "generation_config": "gptft.api.configs",
    "info": "gptft.api.models",
    "list_runs": "gptft.runs.status",
    "load_config": "gptft.api.configs",
    "load_tokenizer": "gptft.tokenization.tokenizer",
    "merge": "gptft.api.merging",
    "novelty": "gptft.api.copies",
    "plan": "gptft.api.planning",
    "play": "gptft.api.playground",
    "predict": "gptft.api.generation",
    "prepare": "gptft.api.training",
    "prepare_shard": "gptft.api.training",
    "read_config": "gptft.api.configs",
    "score": "gptft.api.scores",
    "search_vocabulary": "gptft.inspection.vocabulary",
    "show_run": "gptft.api.runs",
    "summarize_vocabulary": "gptft.inspection.vocabulary",
    "tokenize": "gptft.api.tokens",
    "trace_merges": "gptft.inspection.merges",
    "train": "gptft.api.training",
    "train_sweep": "gptft.api.sweeps",
    "train_tokenizer": "gptft.tokenization.training",
    "verify_runs": "gptft.runs.verify",
}

if not TYPE_CHECKING:  # a type checker is to read the imports above, not that every name is there

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        function = getattr(import_module(_HOMES[name]), name)
        globals()[name] = function
        return function
