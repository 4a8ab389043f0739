"""A model and what a person names to be compared with it -> the name of a model."""


def named_beside(model: str, other: str | None) -> str | None:
    """What is compared with a model: "base" is what a run or an adapter was tuned from.

    Raises:
        ConfigError: see `model_beside`.
    """
    if other is None:
        return None
    from gptft.analysis.memorization import model_beside  # which takes a moment to import

    return model_beside(model, other)
