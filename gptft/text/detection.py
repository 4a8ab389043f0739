"""Bytes of text that isn't UTF-8 -> the name of the codec it is in, or None."""

from gptft.text.scripts import script_of

_MAX_SCORED = 48 * 1024  # bytes of lines beyond ASCII the detector and the scores get to see
_LINE_BYTES = 4096  # of a line that are taken at a time
_MIN_SCORE = 0.4  # right guesses score 0.6 to 1, wrong ones are mostly below 0.3

# What is looked for, the likelier first.
# fmt: off
_CODECS = [
    "cp1252", "cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic", "koi8_u", "cp1250",
    "iso8859_2", "cp1253", "iso8859_7", "cp1254", "cp1257", "cp1255", "cp1256", "cp850", "cp852",
    "cp737", "mac_roman", "shift_jis", "cp932", "euc_jp", "euc_kr", "cp949", "gb18030", "big5",
]
# fmt: on

# Letters a language writes with beyond ASCII: the dozen most common ones | the others. In Latin
# scripts all of them are rare, and none is commoner.
_ALPHABETS = (
    "оеаинтсрвлкмдпуя|ыьгзбчйхжшюцщэфъё",  # Russian
    "оаиніетрвслкдмпу|яьзгбчйхжшїюцщєґф",  # Ukrainian
    "аноіелсртквядымпу|зьбгчйўхцжэшюёф",  # Belarusian
    "аеоитнврсдлкмпзу|яъбгчжщхцфшюйь",  # Bulgarian
    "аоиенрстјувкдмпл|гзбшчћцжљњђфхџ",  # Serbian
    "αοιετσνηυρπκ|λμςωγδθφχβξζψάέήίόύώϊϋΐΰ",  # Greek
    "יוהלארתבמש|נעדקחפכםגצטסזןץךף",  # Hebrew
    "اليمونرتبعة|هدسفكقحجشصخذضطظغثزىءأإآؤئ",  # Arabic
    "àâæçéèêëîïôœùûüÿñíöó|",  # French, and English with its loans
    "äöüß|",  # German
    "áéíñóúüïçàèò|ªº",  # Spanish, Catalan
    "ãáàâçéêíóôõúü|ªº",  # Portuguese
    "àèéìíòóùúî|",  # Italian
    "åäöéæøü|",  # Scandinavian, Finnish
    "áðéíóúýþæö|",  # Icelandic
    "ąćęłńóśźż|",  # Polish
    "áčďéěíňóřšťúůýž|äľĺŕô",  # Czech, Slovak
    "áéíóöőúüű|",  # Hungarian
    "ăâîşţșț|",  # Romanian
    "çğıöşüâîûİ|",  # Turkish
    "čćđšž|",  # Croatian, Slovene
    "ąčęėįšųūžāēģīķļņõäöü|",  # Lithuanian, Latvian, Estonian
)
_PUNCTUATION = frozenset(
    "«»„“”‘’‚‹›–—…•·°§№©®€£¿¡´ªº\xa0\xad、。「」『』！？，．：；（）《》〈〉\u3000"
)
_JOINS_LETTERS = frozenset("’‘´·–—…\xad\xa0")
_WORD_FINAL = frozenset("ςםןץךף")  # forms that nothing but the end of a word has
_NEVER_FIRST = frozenset("ьъ")
_JAPANESE = frozenset({"Han", "Hiragana", "Katakana"})


def detect_codec(sample: bytes) -> str | None:
    """The codec of a text that isn't UTF-8, or None.

    charset_normalizer says which codecs are plausible; of a few lines alone it often ranks them
    wrong, so the one is taken in which some one language explains most of the letters.
    """
    from charset_normalizer import from_bytes

    lines = _telling_lines(sample)
    matches = from_bytes(
        lines, cp_isolation=_CODECS, preemptive_behaviour=False, enable_fallback=False
    )
    plausible = {codec for match in matches for codec in match.could_be_from_charset}
    scores = {codec: _score(lines, codec) for codec in _CODECS if codec in plausible}
    # Where a line or two is all there is, the likelier codec wins by a letter: a place in the list
    # is worth an eighth of one.
    a_letter = 1 / max(1, len(lines) - len(lines.translate(None, delete=bytes(range(128, 256)))))
    places = {codec: place for place, codec in enumerate(_CODECS)}
    best = max(scores, key=lambda c: scores[c] - places[c] / 8 * a_letter, default=None)
    return best if best is not None and scores[best] >= _MIN_SCORE else None


def _telling_lines(sample: bytes) -> bytes:
    """The lines with more than ASCII in them, at most `_MAX_SCORED` bytes, from all over."""
    stretches = [
        line[start : start + _LINE_BYTES]
        for line in sample.splitlines(keepends=True)
        if not line.isascii()
        for start in range(0, len(line), _LINE_BYTES)
    ]
    step = -(-sum(map(len, stretches)) // _MAX_SCORED)
    return b"".join(stretches[:: max(step, 1)])


def _score(raw: bytes, codec: str) -> float:
    """How well some one language explains the characters beyond ASCII: at most 1, below 0 for none.

    A common letter counts 1, a rare one and punctuation less; a letter the language doesn't have,
    or a character where no word has it, counts against it.
    """
    text = f" {raw.decode(codec, errors='replace')} "
    beyond = [i for i, char in enumerate(text) if char >= "\x80"]
    if not beyond:
        return 0.0
    counted: dict[str, int] = {}
    total = 0.0
    for i in beyond:
        char = text[i]
        if not _is_in_place(text, i):
            total -= 1
        elif char in _PUNCTUATION:
            total += 0.8
        elif "\u3040" <= char <= "\ud7a3":  # East Asian
            total += _commonness(char)
        else:
            lower = char if char == "İ" else char.lower()
            counted[lower] = counted.get(lower, 0) + 1
    return (total + max(_explained(counted, letters) for letters in _ALPHABETS)) / len(beyond)


def _explained(counted: dict[str, int], letters: str) -> float:
    common, _, rare = letters.partition("|")
    num_common = sum(counted.get(char, 0) for char in common)
    num_rare = sum(counted.get(char, 0) for char in rare)
    num_foreign = sum(counted.values()) - num_common - num_rare
    return num_common + 0.4 * num_rare - 0.5 * num_foreign


def _is_in_place(text: str, i: int) -> bool:
    """Whether a word can have this character here: case, script, and forms for a word's end."""
    before, char, after = text[i - 1], text[i], text[i + 1]
    if not char.isalpha():
        return char in _JOINS_LETTERS or not (before.isalpha() and after.isalpha())
    if char.isupper() and before.islower():
        return False
    if char.islower() and before.isupper() and after.isupper():
        return False
    if char in _WORD_FINAL and after.isalpha():
        return False
    if char in _NEVER_FIRST and not before.isalpha():
        return False
    return all(not near.isalpha() or _may_touch(char, near) for near in (before, after))


def _may_touch(char: str, near: str) -> bool:
    """Whether two letters may stand side by side in a word, by their scripts."""
    scripts = {script_of(char), script_of(near)}
    return len(scripts) == 1 or "Common" in scripts or scripts <= _JAPANESE


def _commonness(char: str) -> float:
    """1 for kana and the Hangul of KS X 1001, 0.9 for an ideograph in common use, else -0.5.

    In common use: of the first level in GB 2312, Big5 or JIS X 0208.
    """
    if char <= "\u30ff":
        return 1.0
    levels = (("euc_kr", 0xB0, 0xC8), ("gb2312", 0xB0, 0xD7), ("big5", 0xA4, 0xC6))
    for codec, first, last in (*levels, ("shift_jis", 0x88, 0x97)):
        raw = char.encode(codec, errors="ignore")
        if len(raw) == 2 and first <= raw[0] <= last:
            return 1.0 if codec == "euc_kr" else 0.9
    return -0.5
