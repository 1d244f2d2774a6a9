"""Decides whether a text that is not UTF-8 is Windows-1252."""

import re
from collections.abc import Iterable, Iterator

_BETWEEN_CELLS = re.compile(r"[,;|\t\r\n\"]+")
_WORD = re.compile("[A-Za-zÀ-ÖØ-öø-ÿŠšŒœŽžŸƒ]+")
_HIGH = re.compile(r"[^\x00-\x7f]+")
_SIGNS = frozenset("\xa0€…•–—™‘’“”„¡¿«»£§©®°±²³µ·ªº½¼¾×")  # noqa: RUF001 - as they are typed
_OPENING = re.compile(r"(?:^|[^\w’”.!?%)])[’”]\w|[^\W\d][¡¿£©±½¼¾×„²³°§®][^\W\d]")  # noqa: RUF001
"""Signs where no sign belongs: a closing quote that opens a word, signs within words."""
_LONE_WORDS = frozenset("àèéóöåÀÈÉÓ")
_PAIRS = frozenset(
    "ää öö éé åå üß öß äß çã çõ çá çé çó çà ñá ñé ñó ñí éè ée œu éâ ïè æø øå".split()
)
"""Accented letters that follow each other in words of the languages below."""
_ALPHABETS = tuple(
    frozenset(letters)
    for letters in (
        "äöüß",
        "àâæçéèêëîïôœùûüÿ",
        "áéíñóúü",
        "áâãàçéêíóôõú",
        "àèéìíîòóù",
        "åäöé",
        "æøåé",
        "áéíóúèëïöü",
        "àçèéíïòóúü",
    )
)
"""German, French, Spanish, Portuguese, Italian, Swedish and Finnish, Danish and Norwegian, Dutch,
Catalan. Icelandic shares its letters with Turkish in Windows-1254, and is left out."""
_MISPLACED = re.compile(r"[ìù]\w|õ(?!e)|ã(?!o|e|s?$)|ñ(?![aeiouáéíóúü])")
"""Letters where these languages have none; other languages' letters have the same byte."""
_MOST_WORDS = 100_000


def is_western(lines: Iterable[bytes]) -> bool:
    """Return whether a text that is not UTF-8 can be nothing but Windows-1252 (and Latin-1).

    It is, where nearly all of its different words beyond ASCII (19 of 20) look like words of one of
    the languages of Western Europe: accents stand among plain letters, all from one alphabet, and
    next to each other only as they are there. A cell without any plain letter says nothing for it:
    one letter may be of any script. So no text is taken for it that is in the encoding of another
    script (Chinese, Korean, Japanese, Cyrillic, Greek, Arabic, Hebrew, Thai), of DOS or Mac OS, nor
    Czech, Polish, Hungarian, Romanian, Turkish or Baltic text, of which one word in twenty has a
    letter or a place that these languages lack. What remains possible is a table in which every
    such word happens to spell one of theirs: Windows-1250 and Windows-1252 agree on most accents.

    Parameters
    ----------
    lines : iterable of bytes
        All lines of the text.
    """
    seen: set[str] = set()
    strange = 0
    for line in lines:
        if line.isascii():
            continue
        try:
            text = line.decode("cp1252")
        except UnicodeDecodeError:
            return False
        for word, fits in _words(text):
            if word not in seen and len(seen) < _MOST_WORDS:
                seen.add(word)
                strange += not fits
    return strange * 20 <= len(seen) > 0


def _words(text: str) -> Iterator[tuple[str, bool]]:
    """Yield words and signs beyond ASCII, and whether they are such as Western text has."""
    for cell in _BETWEEN_CELLS.split(text):
        if cell.isascii():
            continue
        plain = any(char.isascii() and char.isalpha() for char in cell)
        if _OPENING.search(cell):
            yield cell, False
        for sign in {char for char in cell if not char.isascii() and not _WORD.match(char)}:
            # those above 0x9f are letters in the encodings of other scripts
            yield sign, sign in _SIGNS and (plain or sign > "ÿ" or any(map(str.isdigit, cell)))
        for word in _WORD.findall(cell):
            if not word.isascii():
                yield word if plain else cell, plain and _fits(word)


def _fits(word: str) -> bool:
    if len(word) == 1:
        return word in _LONE_WORDS
    word = word.lower()
    runs = _HIGH.findall(word)
    letters = set("".join(runs))
    return (
        len("".join(runs)) < len(word)
        and not _MISPLACED.search(word)
        and all(len(run) == 1 or run in _PAIRS for run in runs)
        and any(letters <= alphabet for alphabet in _ALPHABETS)
    )
