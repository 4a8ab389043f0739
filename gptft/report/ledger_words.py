"""The ledger of a run -> the account of its text in sentences, in a page's language."""

from collections.abc import Iterator

from gptft.data.ledger import Ledger
from gptft.report.language import Words


def ledger_sentences(ledger: Ledger, w: Words) -> list[str]:
    """What `Ledger.sentences` says of the counts that a run's reader knows, in a language."""
    return [*_sentences(ledger, w)]


def _sentences(ledger: Ledger, w: Words) -> Iterator[str]:
    yield w.say(
        "ledger_files", files=w.count(ledger.files, "file"),
        documents=w.count(ledger.documents, "document"), bytes=w.count(ledger.bytes, "byte"),
        characters=w.count(ledger.characters, "character"),
    )  # fmt: skip
    yield w.say(
        "ledger_tokens", tokens=w.count(ledger.tokens, "token"), eos=w.whole(ledger.num_eos),
        rate=w.local(f"{ledger.bytes_per_token:.2f}"), bos=_bos(ledger, w),
    )  # fmt: skip
    yield _blocks(ledger, w)
    if ledger.trained_tokens:
        tokens, share = w.count(ledger.trained_tokens, "token"), w.percent(ledger.trained_share)
        yield w.say("ledger_trained", tokens=tokens, share=share)
    if ledger.validation_documents:
        yield _held_out(ledger, w)
    if ledger.documents > 1 and ledger.longest_tokens:
        yield w.say(
            "ledger_lengths", longest=w.count(ledger.longest_tokens, "token"),
            shortest=w.whole(ledger.shortest_tokens),
        )  # fmt: skip
    if ledger.repeated_documents:
        yield w.say("ledger_repeated", number=w.whole(ledger.repeated_documents))
    if ledger.unused_documents:
        yield w.say("ledger_unused", documents=w.count(ledger.unused_documents, "document"))
    yield from _peculiarities(ledger, w)


def _bos(ledger: Ledger, w: Words) -> str:
    if not ledger.num_bos:
        return ""
    key = "ledger_bos_parts" if ledger.num_bos < ledger.documents else "ledger_bos"
    return w.say(key, bos=w.whole(ledger.num_bos))


def _blocks(ledger: Ledger, w: Words) -> str:
    figures = {
        "blocks": w.count(ledger.num_blocks, "block"), "size": w.whole(ledger.block_size),
        "tail": w.whole(ledger.tail_tokens),
    }  # fmt: skip
    if ledger.packing == "best_fit":
        return _fitted(ledger, figures, w)
    dropped = w.count(ledger.dropped_tokens, "token")
    key = "ledger_even"
    if ledger.tail_tokens:
        key = "ledger_tail" if ledger.num_blocks else "ledger_short"
    elif ledger.dropped_tokens:
        key = "ledger_dropped"
    return w.say(key, dropped=dropped, **figures)


def _fitted(ledger: Ledger, figures: dict[str, str], w: Words) -> str:
    key = "ledger_fit_tail" if ledger.tail_tokens else "ledger_fit"
    if not ledger.num_blocks:
        key = "ledger_fit_one"
    padding = ""
    if ledger.padding_tokens:
        padding = w.say("ledger_padding", tokens=w.count(ledger.padding_tokens, "token"))
    said = [w.say(key, full=w.percent(ledger.fill_share), padding=padding, **figures)]
    if ledger.dropped_tokens:
        said.append(w.say("ledger_emptiest", tokens=w.count(ledger.dropped_tokens, "token")))
    if split := ledger.split_documents:
        key = "ledger_split_one" if split == 1 else "ledger_split"
        said.append(w.say(key, documents=w.count(split, "document")))
    return " ".join(said)


def _held_out(ledger: Ledger, w: Words) -> str:
    blocks = ledger.validation_blocks + (ledger.validation_tail_tokens > 0)
    said = w.say(
        "ledger_held_out_share" if ledger.validation_tokens else "ledger_held_out",
        documents=w.count(ledger.validation_documents, "document"),
        blocks=w.count(blocks, "block"), share=w.percent(ledger.validation_share),
    )  # fmt: skip
    if twice := ledger.held_out_duplicates:
        key = "ledger_twice_one" if twice == 1 else "ledger_twice"
        said += f" {w.say(key, number=w.whole(twice))}"
    return said


def _peculiarities(ledger: Ledger, w: Words) -> Iterator[str]:
    """What a user should know of the texts, where there is anything."""
    kinds = (
        ("empty", ledger.empty_documents, "documents", "empty_document"),
        ("unanswered", ledger.unanswered_documents, "conversations", "conversation"),
        ("duplicate", ledger.duplicate_documents, "documents", "document"),
        ("decoded", ledger.decoded_files, "files", "file"),
        ("books", ledger.book_files, "files", "file"),
        ("crlf", ledger.crlf_files, "files", "file"),
        ("skipped", ledger.skipped_files, "files", "file"),
    )
    for kind, number, place, noun in kinds:
        if number:
            yield w.say(f"ledger_{kind}", **{place: w.count(number, noun)})
