"""The language of a general text -> what the text is called."""

_LANGUAGES = {"ru": "Russian", "en": "English"}


def general_name(language: str) -> str:
    """What a general text is called in tables.

    >>> general_name("ru")
    'general text, Russian'
    """
    return f"general text, {_LANGUAGES.get(language, language)}"
