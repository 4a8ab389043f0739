"""Drafts from the text itself: what followed the last tokens where they stood before."""

from typing import Any

from gptft.config.settings import Setting, whole
from gptft.decoding import define


def _fields(settings: define.Values) -> dict[str, Any]:
    if not settings["prompt_lookup_num_tokens"]:  # there is no room left for a draft
        return {}
    return settings.named("prompt_lookup_num_tokens", "max_matching_ngram_size")


METHOD = define.Method(
    group="speed",
    settings=(
        Setting("prompt_lookup_num_tokens", whole(ge=1), 0, "Tokens copied at once as a draft."),
        Setting("max_matching_ngram_size", whole(ge=1), 2, "The longest match looked for."),
    ),
    strategies=(
        define.Strategy(
            name="prompt_lookup",
            description="Takes what followed the last tokens where they stood before as a draft.",
            source="Saxena 2023, Prompt Lookup Decoding (github.com/apoorvumang).",
            takes=("prompt_lookup_num_tokens", "max_matching_ngram_size", *define.DRAFTED),
            defaults={"prompt_lookup_num_tokens": 10},
            draws="asked",
            asked_by=("prompt_lookup_num_tokens",),
            generation=_fields,
            single="drafts are checked for one text",
            conflicts=define.ONE_TOKEN_AT_A_TIME,
        ),
    ),
)  # fmt: skip
