"""Names of WikiScenes' folders, normalised over languages and buildings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable

from hierpretrain._names import nfc

_VARIANTS = {  # one word -> its other forms, in the set's languages, without accents
    "exterior": "exteriors exteriores exterieur exterieurs esterno esterni aussen aussenansicht outside",
    "interior": "interiors interiores interieur interieurs interno interni innen innenansicht innenraum inside",
    "views": "view vue vues vista vistas veduta vedute ansicht ansichten",
    "facade": "facades facciata facciate fachada fachadas facana facanes fassade fassaden",
    "window": "windows vitrail vitraux vetrata vetrate vidriera vidrieras vitral vitrales vitrais vitralls fenster "
    "glasfenster",
    "chapel": "chapels chapelle chapelles cappella cappelle capilla capillas capela capelas capella capelles kapelle "
    "kapellen",
    "organ": "organs orgue orgues organo organi organos orgao orgaos orgel orgeln",
    "nave": "naves nef nefs navata navate nau naus langhaus mittelschiff hauptschiff",
    "tower": "towers tour tours torre torri torres turm turme",
    "choir": "choirs choeur choeurs coro cori coros cor chor chore",
    "portal": "portals portail portails portale portali portada portadas",
    "altar": "altars autel autels altare altari altares",
    "statue": "statues statua estatua estatuas statuen",
    "north": "northern nord norte septentrional",
    "south": "southern sud sul meridional",
    "east": "eastern est este leste ost",
    "west": "western ouest oeste ovest",
    "main": "principal principale principales mayor maior maggiore",
}
_WORDS = {form: word for word, forms in _VARIANTS.items() for form in (word, *forms.split())}
_MODIFIERS = ("north", "south", "east", "west", "main")
_CHURCHES = set(
    "cathedral cathedrale catedral cattedrale kathedrale kathedraal katedra cathedralis duomo dom domo minster munster "
    "basilica basilique basilika".split()
)
_OF = set("of de du des d del della dello di da do von vom van".split())
FILLERS = _OF | set(
    "the a an in at and s la le les l el los las lo il gli i y e et und der die das den dem im am".split()
)
_BREAK = re.compile(r"[,;:()\[\]]|\s[-\u2013\u2014]\s")
_WORD = re.compile(r"[^\W_]+")


def tidy_name(name: str) -> str:
    r"""Returns a name in Unicode's composed form (NFC), with single spaces.

    Example:
        >>> tidy_name("Cathe\u0301drale  de Rouen")
        'Cathédrale de Rouen'
    """
    return " ".join(nfc(name).split())


def name_words(name: str) -> set[str]:
    """Returns the words of a name, in lower case and without accents.

    Example:
        >>> sorted(name_words("Façade of Notre-Dame"))
        ['dame', 'facade', 'notre', 'of']
    """
    return {_folded(word) for word in _WORD.findall(nfc(name))}


def _folded(word: str) -> str:
    letters = unicodedata.normalize("NFKD", word.casefold().replace("œ", "oe"))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def landmark_words(name: str, parts: Iterable[str]) -> set[str]:
    """Returns the words that name a building, as opposed to a part of it.

    Args:
        name: The landmark's name.
        parts: The names of the folders directly below it. In the names of exterior and interior, such as "Interior of
            Sé de Lisboa", the other words are the building's name.

    Example:
        >>> sorted(landmark_words("lisbon cathedral", ["Interior of Sé de Lisboa", "Altars"]))
        ['cathedral', 'lisboa', 'lisbon', 'se']
    """
    words = name_words(name)
    for part in map(name_words, parts):
        if {_WORDS.get(word) for word in part} & {"exterior", "interior"}:
            words |= part - _WORDS.keys()
    return words - FILLERS - set(_MODIFIERS)


def normalised_concept(name: str, landmark: Collection[str] = ()) -> str:
    """Returns the part of the building that a folder's name stands for, the same for all buildings and languages.

    - The name is put into lower case. The words of the landmark, words such as "cathedral" and what follows them after
      an "of", and articles are left out.
    - The words for the exterior, the interior, views and the ten concepts are translated into the English singular.
      "north", "south", "east", "west" and "main" come first.
    - A name that begins with the exterior or the interior is reduced to this word.
    - Other words stay, so that two chapels of a building are two nodes. If no word is left, the whole name stays.

    Args:
        name: The name of the folder.
        landmark: The words of the landmark, see :func:`landmark_words`.

    Example:
        >>> for name in ("Exterior of the Duomo (Milan)", "Interiores de la Catedral Nueva de Salamanca",
        ...              "Nave of the Cathedral of Seville", "Cathedral of Seville, facade north",
        ...              "Stained-glass windows of Seville Cathedral", "Chapel of San Nicolás, Ávila Cathedral"):
        ...     print(normalised_concept(name, {"milan", "seville", "avila"}))
        exterior
        interior
        nave
        north facade
        window
        chapel san nicolás
    """
    plain = tidy_name(name).lower()
    text = re.sub(r"stained[- ]glass(?=.*\bwindow)|\bpipe(?= organ)", "", plain).replace("stained-glass", "window")
    text = text.replace("stained glass", "window")
    words: dict[str, None] = {}  # in order, each once
    for part in _BREAK.split(text):
        spelled = _WORD.findall(part)
        keys = [_folded(word) for word in spelled]
        for i, (word, key) in enumerate(zip(spelled, keys, strict=True)):
            if key in _CHURCHES and _OF.intersection(keys[i + 1 : i + 2]):
                break
            if key not in _CHURCHES and key not in FILLERS and key not in landmark:
                words[_WORDS.get(key, word)] = None
    kept = list(words)
    if kept[:1] in (["exterior"], ["interior"]):
        return kept[0]
    kept.sort(key=lambda word: word not in _MODIFIERS)
    return " ".join(kept) or plain
