"""Facts on a model -> rows of words and boxes, as a terminal and a page show them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gptft.inspection.model_facts import TRAINED_BYTES, ModelFacts, Needs
from gptft.models.anatomy import Anatomy
from gptft.models.parameters import LORA_RANK, Part
from gptft.terminal.text import escaped, visible
from gptft.terminal.words import bytes_text, count, first_of, percent

NOTHING = "–"
_MOST_KINDS = 6

PART_NAMES: dict[Part, str] = {
    "embeddings": "embeddings", "positions": "positions", "attention": "attention",
    "recurrent": "recurrent", "feed_forward": "feed-forward", "experts": "experts",
    "residual": "residual paths", "norms": "norms", "head": "head", "other": "other",
}  # fmt: skip
_POSITIONS = {
    "learned": "learned: a vector for each place is added to the embeddings, and beyond the last "
    "place there is none",
    "rotary": "rotary: queries and keys are turned by an angle that grows with the place, so that "
    "attention sees distances; beyond the context it soon gets worse",
    "alibi": "ALiBi: the farther back a token is, the less attention it gets; longer texts than "
    "in training are possible",
    "sinusoidal": "sinusoidal: waves of fixed lengths are added to the embeddings; nothing is "
    "learned for them",
    "relative": "relative: attention has a term for each distance between two tokens",
    "none": "none: the order of tokens is in the state that is carried from each to the next",
}

Row = tuple[str, str]


@dataclass(frozen=True)
class Box:
    """A part of the drawing.

    Attributes:
        title: what it is.
        rows: what is in it, and a number at the right of each; "" for none.
        inner: boxes within it.
    """

    title: str
    rows: tuple[Row, ...] = ()
    inner: tuple["Box", ...] = ()


def boxes(facts: ModelFacts) -> list[Box]:
    """The way of a token through a model, from its id to the next one's logits."""
    anatomy, parameters = facts.anatomy, facts.parameters
    parts = parameters.parts if parameters else {}
    by, ids = _times(anatomy.vocab_size, anatomy.width), f"{number_text(anatomy.vocab_size)} logits"
    found = [Box("embeddings", ((by, number_text(parts.get("embeddings"), "")),))]
    if parts.get("positions"):
        found.append(Box("+ positions", (("learned", number_text(parts["positions"])),)))
    found.append(_block(facts))
    final = _outer_norms(facts)
    if final:
        found.append(Box("norm", ((anatomy.norm or "", number_text(final)),)))
    if parts.get("head"):
        found.append(Box("head", ((f"{by}, to {ids}", number_text(parts["head"])),)))
    elif parameters is None or parameters.tied:
        found.append(Box("head", ((f"the embeddings again (tied), to {ids}", ""),)))
    return found


def _block(facts: ModelFacts) -> Box:
    anatomy = facts.anatomy
    block = facts.parameters.block if facts.parameters else {}
    inner = []
    if "attention" in block or (not block and anatomy.heads):
        inner.append(_box("attention", _attention_short(anatomy), block.get("attention")))
    if "recurrent" in block:
        inner.append(_box("recurrent", "a state instead of attention", block["recurrent"]))
    if "feed_forward" in block or not block:
        what = "all tokens pass it" if "experts" in block else _feed_forward(anatomy)
        title = "router, shared experts" if "experts" in block else "feed-forward"
        inner.append(_box(title, what, block.get("feed_forward")))
    if "experts" in block:
        which = (
            f"{number_text(anatomy.top_k, '?')} of {number_text(anatomy.num_experts, '?')} a token"
        )
        inner.append(_box("experts", f"{which}, {_feed_forward(anatomy)}", block["experts"]))
    rows = [(f"{anatomy.norm or 'norms'}", number_text(block["norms"]))] if "norms" in block else []
    if "residual" in block:
        rows.append(("residual paths", number_text(block["residual"])))
    if anatomy.parallel:
        rows.append(("attention and feed-forward in parallel", ""))
    layers = "" if anatomy.layers is None else f"{anatomy.layers:,} × "
    title = f"{layers}block" if _is_uniform(facts) else f"{layers}block, the first:"
    return Box(title, tuple(rows), tuple(inner))


def _box(title: str, what: str, number: int | None) -> Box:
    return Box(title, ((what, number_text(number, "")),))


def _is_uniform(facts: ModelFacts) -> bool:
    """Whether all layers have as many parameters in each part as the first."""
    parameters, layers = facts.parameters, facts.anatomy.layers
    if parameters is None or layers is None:
        return True
    inside: tuple[Part, ...] = ("attention", "recurrent", "feed_forward", "experts")
    return all(
        layers * parameters.block.get(part, 0) == parameters.parts.get(part, 0) for part in inside
    )


def _outer_norms(facts: ModelFacts) -> int:
    """Parameters of the norms outside of blocks, where they can be told from those inside."""
    if facts.parameters is None or facts.anatomy.layers is None or not _is_uniform(facts):
        return 0
    inside = facts.anatomy.layers * facts.parameters.block.get("norms", 0)
    return max(facts.parameters.parts.get("norms", 0) - inside, 0)


def _attention_short(anatomy: Anatomy) -> str:
    said = [f"{_times(anatomy.heads, anatomy.head_dim, 'heads')}"]
    if anatomy.attention:
        said.append(anatomy.attention)
    if anatomy.positions in ("rotary", "alibi"):
        said.append("ALiBi" if anatomy.positions == "alibi" else "rotary")
    return ", ".join(said)


def _feed_forward(anatomy: Anatomy) -> str:
    width = number_text(anatomy.width)
    way = f"{width} → {number_text(anatomy.inner)} → {width}"
    activation = [cut(anatomy.activation, 24)] if anatomy.activation else []
    return ", ".join([way, *activation, *(["gated"] if anatomy.gated else [])])


def part_rows(facts: ModelFacts) -> list[tuple[str, str, str]]:
    """Each part with its parameters and their share; the sum last."""
    if facts.parameters is None:
        return []
    total = facts.parameters.total
    rows = [
        (PART_NAMES[part], f"{number:,}", percent(number / total if total else 0.0))
        for part, number in facts.parameters.parts.items()
    ]
    return [*rows, ("in all", f"{total:,}", "100%")]


def build_rows(facts: ModelFacts) -> list[Row]:
    """What it is made of, a row a fact; what isn't known is left out."""
    anatomy = facts.anatomy
    rows = [
        ("architecture", cut(anatomy.model_type or "")),
        ("layers", number_text(anatomy.layers, "")),
        ("layer kinds", _kinds(anatomy)),
        ("width", number_text(anatomy.width, "")),
        ("heads", _heads(anatomy)),
        ("sliding window", count(anatomy.window, "token") if anatomy.window else ""),
        ("positions", _POSITIONS.get(anatomy.positions or "", "")),
        ("experts", _experts(facts)),
        ("context", _context(facts)),
        ("vocabulary", _vocabulary(facts)),
        ("your text", _text(facts)),
        ("head", _tied(facts)),
        ("weights", _weights(facts)),
        ("adapter", _adapter(facts)),
        ("licence", cut(facts.card.licence or "not known: its README.md names none")),
        ("made from", cut(facts.card.base or "")),
        ("languages", cut(facts.card.languages or "")),
        ("trained on", cut(facts.card.data or "")),
    ]
    return [row for row in rows if row[1]]


def _kinds(anatomy: Anatomy) -> str:
    kinds = [f"{number:,} {cut(kind)}" for kind, number in anatomy.layer_kinds.items()]
    return first_of(kinds, _MOST_KINDS)


def _heads(anatomy: Anatomy) -> str:
    heads, kv = anatomy.heads, anatomy.kv_heads
    if heads is None or kv is None:
        return ""
    sizes = _times(heads, anatomy.head_dim)
    match anatomy.attention:
        case "GQA":
            share = f"{heads / kv:g} share keys and values, so that the cache is as much smaller"
            return f"{sizes}, GQA: {share}"
        case "MQA":
            return f"{sizes}, MQA: all share keys and values"
        case "MLA":
            return f"{sizes}, MLA: keys and values are computed of a short vector, which is cached"
    return f"{sizes}, MHA: each has keys and values of its own"


def _experts(facts: ModelFacts) -> str:
    anatomy, parameters = facts.anatomy, facts.parameters
    if (
        not anatomy.num_experts
        or not anatomy.top_k
        or "experts" not in (parameters.parts if parameters else {"experts": 0})
    ):
        return ""
    active = f": {parameters.active:,} parameters work on it" if parameters else ""
    return f"{anatomy.num_experts:,} a layer, {anatomy.top_k:,} for each token{active}"


def _context(facts: ModelFacts) -> str:
    context, text = facts.anatomy.context, facts.text
    if context is None:
        return ""
    fits = ""
    if text is not None and text.bytes_per_token and text.num_characters:
        letters = context * text.num_characters // text.num_tokens
        fits = f", some {letters:,} characters of your text"
    return f"{count(context, 'token')}{fits}"


def _vocabulary(facts: ModelFacts) -> str:
    size, tokens = facts.anatomy.vocab_size, facts.num_tokens
    if size is None or tokens is None or size == tokens:
        return number_text(size or tokens, "")
    if size > tokens:
        return f"{size:,} embeddings, {size - tokens:,} of them without a token"
    return f"{tokens:,} tokens, {tokens - size:,} of them without an embedding: that is a fault"


def _text(facts: ModelFacts) -> str:
    text = facts.text
    if text is None:
        return ""
    if text.bytes_per_token is None:
        return "empty"
    rates = f"{text.bytes_per_token:.2f} bytes a token"
    words = f", {text.tokens_per_word:.2f} tokens a word" if text.tokens_per_word else ""
    return f"{count(text.num_tokens, 'token')}: {rates}{words}"


def _tied(facts: ModelFacts) -> str:
    if facts.parameters is None:
        return ""
    match facts.parameters.tied:
        case True:
            return "tied: it is the table of embeddings, and counts once"
        case False:
            return "its own, not tied to the embeddings"
    return ""


def _weights(facts: ModelFacts) -> str:
    said = []
    total = sum(facts.dtypes.values())
    for dtype, number in facts.dtypes.items():
        share = f" {percent(number / total)}" if len(facts.dtypes) > 1 and total else ""
        said.append(f"{cut(dtype)}{share}")
    if facts.quantized:
        said.insert(0, f"quantized ({cut(facts.quantized)})")
    if facts.bytes_on_disk is not None:
        said.append(f"{bytes_text(facts.bytes_on_disk)} on disk")
    return ", ".join(said) or "none here"


def _adapter(facts: ModelFacts) -> str:
    adapter = facts.adapter
    if adapter is None:
        return ""
    kind = adapter.kind if adapter.rank is None else f"{adapter.kind}, rank {adapter.rank:,}"
    targets = first_of([cut(one) for one in adapter.targets], _MOST_KINDS)
    said = [f"{cut(kind)}{f', for {targets}' if targets else ''}"]
    if adapter.parameters is not None:
        said.append(count(adapter.parameters, "parameter"))
    if adapter.bytes_on_disk is not None:
        said.append(f"{bytes_text(adapter.bytes_on_disk)} on disk")
    return f"{'; '.join(said)}; all else here is of its base, {cut(adapter.base)}"


def needs_rows(facts: ModelFacts) -> list[Row]:
    """What running and training it take."""
    return [] if facts.needs is None else [*_needs(facts.needs)]


def _needs(needs: Needs) -> Iterator[Row]:
    is_other = needs.weights and needs.weights != needs.weights_float32
    stored = f"{bytes_text(needs.weights or 0)} as stored, " if is_other else ""
    yield "to run", f"{stored}{bytes_text(needs.weights_float32)} in float32"
    if needs.cache_per_token is not None:
        full = f", {bytes_text(needs.cache_full)} of a full context" if needs.cache_full else ""
        yield "and its cache", f"{bytes_text(needs.cache_per_token)} a token in float32{full}"
    yield (
        "to train all of it",
        f"{bytes_text(needs.full_training)}: {TRAINED_BYTES} bytes a parameter, weights, gradients "
        "and AdamW in float32",
    )
    if needs.lora_parameters:
        yield (
            f"with LoRA, rank {LORA_RANK}",
            f"about {bytes_text(needs.lora_training)}: {needs.lora_parameters:,} parameters "
            "are trained, on all linear layers",
        )
    extra = "grow with batch and length, with LoRA, too"
    if needs.activations_per_1000_tokens is not None:
        size = bytes_text(needs.activations_per_1000_tokens)
        extra = f"about {size} for each 1,000 tokens of a batch, with LoRA, too"
    yield "activations besides", extra
    attention = more = ""
    if needs.attention_flops:
        attention = (
            f"; attention adds {flops_text(needs.attention_flops)} on average over a full context"
        )
        more = f"; attention adds {flops_text(3 * needs.attention_flops)}"
    yield "a token forward", f"{flops_text(needs.forward_flops)}{attention}"
    yield "a token in training", f"{flops_text(needs.training_flops)}{more}"


def flops_text(number: int) -> str:
    """A number of operations.

    >>> flops_text(15_097_344), flops_text(350 * 10**9)
    ('15.1 MFLOP', '350.0 GFLOP')
    """
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:,.1f} {unit}FLOP"
    return f"{number} FLOP"


def special_rows(facts: ModelFacts) -> list[tuple[str, str, str, str]]:
    """Special tokens: name, text, ids, and whether tokenizer and config agree."""
    rows = []
    for one in facts.special_tokens:
        said = ", ".join(f"{i:,}" for i in one.config_ids[:4])
        sole = "only the tokenizer" if one.token is not None else "only config.json"
        verdict = "both agree" if one.agrees else f"config.json says {said}"
        verdict = sole if one.agrees is None else verdict
        own = said if one.tokenizer_id is None else f"{one.tokenizer_id:,}"
        rows.append((one.name.removesuffix("_token"), visible(one.token or ""), own, verdict))
    return rows


def comparison(models: Sequence[ModelFacts]) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Parameters by part, facts and needs of several models, a column each, with their titles."""
    sections = {
        "Parameters": [{name: number for name, number, _ in part_rows(one)} for one in models],
        "What they are made of": [dict(build_rows(one)) for one in models],
        "What they take": [dict(needs_rows(one)) for one in models],
    }
    return [
        (title, [(name, *(one.get(name, NOTHING) for one in columns)) for name in _merged(columns)])
        for title, columns in sections.items()
        if any(columns)
    ]


def _merged(columns: Sequence[Iterable[str]]) -> list[str]:
    """Each name once, after the one that it follows where it was found."""
    names: list[str] = []
    for column in columns:
        at = 0
        for name in column:
            if name not in names:
                names.insert(at, name)
            at = names.index(name) + 1
    return names


def summary(facts: ModelFacts) -> str:
    """What it is and how large, in a line."""
    kind = f", {cut(facts.anatomy.model_type)}" if facts.anatomy.model_type else ""
    if facts.parameters is None:
        return f"{escaped(facts.model)}{kind}"
    by = ", counted by its config.json" if facts.counted_from == "config" else ""
    return f"{escaped(facts.model)}{kind}: {count(facts.parameters.total, 'parameter')}{by}"


def cut(text: str, at_most: int = 200) -> str:
    """What a file says, in one line that holds no more than a person reads."""
    shown = escaped(text)
    return shown if len(shown) <= at_most else f"{shown[:at_most]}…"


def number_text(value: int | None, nothing: str = NOTHING) -> str:
    """A whole number, or what stands for none."""
    return nothing if value is None else f"{value:,}"


def _times(one: int | None, other: int | None, noun: str = "") -> str:
    head = number_text(one) + (f" {noun}" if noun else "")
    return f"{head} × {other:,}" if other is not None else head
