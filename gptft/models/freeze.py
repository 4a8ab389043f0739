"""A model and patterns of names -> the model with those of its weights frozen."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from gptft.config.name_patterns import matching, pattern_problem
from gptft.errors import ConfigError


def freeze(model: PreTrainedModel, patterns: Sequence[str], *, has_new: bool) -> tuple[str, ...]:
    """Freeze what patterns name; a weight that two modules share is frozen in both.

    Args:
        model: whose weights are frozen in place.
        patterns: of the setting model.freeze.
        has_new: whether the model has embeddings of new tokens, which must learn.

    Returns:
        sentences on what is frozen besides.

    Raises:
        ConfigError: a pattern names nothing, or nothing is left to be trained.
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    problems = [
        f"model.freeze: {pattern} {problem}"
        for pattern in patterns
        if (problem := pattern_problem(pattern, [*named]))
    ]
    if problems:
        raise ConfigError(*problems)
    meant = {name for pattern in patterns for name in matching(pattern, named)}
    frozen = {id(named[name]) for name in meant}
    for name in meant:
        named[name].requires_grad_(False)
    if not any(one.requires_grad for one in model.parameters()):
        total = sum(one.numel() for one in model.parameters())
        raise ConfigError(
            f"model.freeze freezes all {total:,} parameters, and nothing is left to be trained. "
            "Leave something out."
        )
    embeddings = model.get_input_embeddings().weight
    if has_new and id(embeddings) in frozen:
        name = next(name for name, one in named.items() if one is embeddings)
        raise ConfigError(
            f"model.freeze: {name} is frozen, and the new tokens' embeddings in it would never "
            "learn. Leave it out, or add no tokens."
        )
    shared = [name for name, one in named.items() if id(one) in frozen and name not in meant]
    return tuple(
        f"model.freeze: {name} is frozen, too: it shares its weights with one that is named."
        for name in shared
    )
