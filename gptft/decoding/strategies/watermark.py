"""A watermark: a secret share of the tokens is favoured."""

from gptft.config.settings import Setting, number, one_of, whole
from gptft.decoding import define

_OWN = ("greenlist_ratio", "watermark_bias", "hashing_key", "seeding_scheme", "context_width")


def _build(settings: define.Values, batch: define.BatchContext) -> define.Process:
    from transformers import WatermarkingConfig

    fields = settings.named("greenlist_ratio", "hashing_key", "seeding_scheme", "context_width")
    config = WatermarkingConfig(**fields, bias=settings["watermark_bias"])
    return config.construct_processor(batch.vocab_size, batch.input_ids.device)


METHOD = define.Method(
    group="watermark",
    settings=(
        Setting("greenlist_ratio", number(gt=0, lt=1), 0.25, "The share of tokens that is "
                "favoured."),
        Setting("watermark_bias", number(gt=0), 2.0, "Added to the logits of favoured tokens."),
        Setting("hashing_key", whole(ge=0, le=2**31 - 1), 15485863, "The secret by which tokens "
                "are favoured."),
        Setting("seeding_scheme", one_of("lefthash", "selfhash"), "lefthash", "What the favoured "
                "tokens depend on."),
        Setting("context_width", whole(ge=1), 1, "Tokens before the next that they depend on."),
    ),
    strategies=(
        define.Strategy(
            name="watermark",
            description="Favours a secret share of the tokens, so that the text can be told from a "
            "person's.",
            source="Kirchenbauer et al. 2023 (2301.10226).",
            takes=(*_OWN, *define.ASKED_SAMPLING),
            defaults={"do_sample": True, "top_p": 0.9},
            draws="asked",
            asked_by=("greenlist_ratio", "watermark_bias"),
            # What it favours depends on earlier tokens.
            processors=(define.Processor("watermark", define.MARK, _build, sees_padding=True),),
        ),
    ),
)  # fmt: skip
