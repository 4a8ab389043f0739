"""SynthID: tokens drawn by a secret tournament."""

from collections.abc import Iterator

from gptft.config.settings import Setting, whole, whole_numbers
from gptft.decoding import define


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    from transformers import SynthIDTextWatermarkingConfig

    keys, length = settings["synthid_keys"], settings["synthid_ngram_len"]
    config = SynthIDTextWatermarkingConfig(ngram_len=length, keys=keys)
    return config.construct_processor(batch.vocab_size, batch.input_ids.device)


def _check(settings: define.Values) -> Iterator[str]:
    if not settings["synthid_keys"]:
        yield "synthid_keys is empty, and synthid marks a text by them. Give at least one number."


METHOD = define.Method(
    group="watermark",
    settings=(
        Setting("synthid_keys", whole_numbers(ge=0, le=2**31 - 1), [], "The secret, a number a "
                "round."),
        Setting("synthid_ngram_len", whole(ge=2, le=10_000), 5, "Tokens that the mark depends on."),
    ),
    strategies=(
        define.Strategy(
            name="synthid",
            description="Draws by a secret tournament, so that the text can be told from a "
            "person's.",
            source="Dathathri et al. 2024, Nature 634.",
            takes=("synthid_keys", "synthid_ngram_len", *define.SAMPLING),
            defaults={"synthid_keys": [654, 400, 836, 123, 340, 443, 597, 160], "top_p": 0.9},
            draws="always",
            asked_by=("synthid_keys",),
            processors=(define.Processor("synthid", define.MARK, _build),),
            check=_check,
        ),
    ),
)  # fmt: skip
