"""Every named character that the DejaVu and STIXGeneral fonts inside matplotlib can draw.

An image may come with the name of its character. A name is split into runs of letters and single
digits, whatever stands between them, and each is a token by its place in the sorted vocabulary of
all names that these fonts can draw, from 1 on; zeros follow up to the length of the longest name.
"""

import fnmatch
import functools
import hashlib
import importlib.metadata
import importlib.util
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data import imaging, source
from research.data.pack import Writer
from research.data.settings import Config
from research.data.sources import python_stdlib
from research.errors import UserError, nearest

SIZE = 32  # pixels a side as drawn; smaller resolutions are averages of these
POINTS = 22
# Unicode's general categories; those of unnamed characters (controls, surrogates, private use,
# unassigned) cannot occur.
CATEGORIES = tuple(
    "Cf Ll Lm Lo Lt Lu Mc Me Mn Nd Nl No Pc Pd Pe Pf Pi Po Ps Sc Sk Sm So Zl Zp Zs".split()
)
STORED = ("category", "style")
CHOICES = {"label": (*STORED, "both"), "text": ("none", "words")}
# fonts: shell patterns of font file names; label: what the class of an image is, where "both" is a
# class for each category in each style; text: whether the name of the character lies beside.
DEFAULTS = {
    "resolution": 16,
    "fonts": ("DejaVu*", "STIXGeneral*"),
    "label": "category",
    "text": "none",
    "unique": 0,
}


def check(data: Config) -> None:
    """Raise UserError for a resolution, a label, a text or a number of images that is not there."""
    imaging.check(data)
    for key, choices in CHOICES.items():
        if data[key] not in choices:
            words = f"{', '.join(choices[:-1])} or {choices[-1]}{nearest(data[key], choices)}"
            raise UserError(f"data.{key} is {data[key]!r}; it is {words}")


def outline(data: Config) -> source.Spec:
    """Grey images, labelled by Unicode category, by font style or by both.

    With `data.text` "words" also int32 "text" [length], and in the spec "text", a dict of that
    "length" and of the "vocab_size", the padding 0 included.
    """
    names = {"category": list(CATEGORIES), "style": styles()}
    names["both"] = [f"{category} {style}" for category in CATEGORIES for style in names["style"]]
    shape = (data["resolution"], data["resolution"], 1)
    spec = source.images(shape, names[data["label"]], label=data["label"])
    if data["text"] == "words":
        length = longest_name()
        spec["text"] = {"length": length, "vocab_size": len(vocabulary()) + 1}
        spec["arrays"]["text"] = source.Column((length,), np.int32, "text")
    return spec


def fill(writer: Writer, data: Config) -> None:
    """Write every image with its labels and its name, in the order that TFDS gave them."""
    from research.data import builders

    features = {"image": (SIZE, SIZE, 1), "text": "text"}
    features |= {"category": list(CATEGORIES), "style": styles()}
    builder = builders.prepared(data, features, lambda _: splits(data["fonts"]))
    beside = {}
    if data["text"] == "words":
        beside["text"] = lambda example: tokens_of(data, example["text"].decode()).astype(np.uint16)
    builders.pack_images(writer, builder, data["resolution"], STORED, beside)


def view(
    split: str, arrays: dict[str, Any], spec: source.Spec, data: Config, meta: dict[str, Any]
) -> source.Source:
    """The examples of a split; a class of "both" is category * styles + style."""
    if data["label"] == "both":
        arrays = {**arrays, "both": arrays["category"] * len(styles()) + arrays["style"]}
    found = source.open_split(split, arrays, spec, meta["fingerprint"])
    return source.cut(found, data["unique"])


def tokens_of(data: Config, name: str) -> NDArray[np.int32]:
    """The tokens of the name of a character, zeros after them, [length].

    Any words of the vocabulary will do, so a name may be one that no character has.

    Raises:
        UserError: for images without text, for no word, a word that no name has (nearest named), or
            more words than any name.
    """
    if data["text"] != "words":
        raise UserError(f"data.text is {data['text']!r}; names have tokens where it is 'words'")
    numbers = {word: number for number, word in enumerate(vocabulary(), 1)}
    found, length = words_of(name), longest_name()
    for word in found:
        if word not in numbers:
            raise UserError(f"{name!r}: no name has {word!r}{nearest(word, numbers)}")
    if not 1 <= len(found) <= length:
        raise UserError(f"{name!r} has {len(found)} words; expected 1 to {length}")
    return np.array([numbers[word] for word in found] + [0] * (length - len(found)), np.int32)


def words_of(name: str) -> list[str]:
    """The words of a name, in capitals: runs of letters, and digits one by one."""
    return re.findall("[A-Z]+|[0-9]", name.upper())


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """Every word of the names of all characters of `all_fonts`, sorted."""
    return tuple(sorted({word for name in _names() for word in words_of(name)}))


@functools.cache
def longest_name() -> int:
    """The words of the longest of these names."""
    return max(len(words_of(name)) for name in _names())


@functools.cache
def _names() -> frozenset[str]:
    from fontTools.ttLib import TTFont

    codes: set[int] = set()
    for file in all_fonts():
        with TTFont(file, lazy=True) as table:
            codes |= {*(table.getBestCmap() or ())}
    return frozenset(filter(None, (unicodedata.name(chr(code), "") for code in codes)))


def all_fonts() -> list[Path]:
    """Return the DejaVu and STIXGeneral files of the installed matplotlib, plain styles first.

    The other fonts there are left out: their codes are not Unicode (cm, STIXSiz, STIXNonUni) or
    they draw a placeholder for every character (LastResort).

    Raises:
        UserError: when matplotlib is not installed.
    """
    found = importlib.util.find_spec("matplotlib")  # finds the package without importing it
    if found is None or not found.submodule_search_locations:
        raise UserError("data.name glyphs draws with matplotlib's fonts: pip install matplotlib")
    folder = Path(found.submodule_search_locations[0], "mpl-data", "fonts", "ttf")
    files = [*folder.glob("DejaVu*.ttf"), *folder.glob("STIXGeneral*.ttf")]
    return sorted(files, key=lambda file: file.stem)


def styles() -> list[str]:
    """Return the font style labels: the file names of `all_fonts` without .ttf."""
    return [file.stem for file in all_fonts()]


def factors(data: Config) -> dict[str, NDArray[np.int32]]:
    """What is known of each class of an image, {factor: its value for each class}.

    Of styles their typeface, weight and slant, by the names of their fonts.
    """
    names = outline(data)["class_names"]
    found = {}
    if data["label"] != "style":
        found["category"] = [name.split()[0] for name in names]
    if data["label"] != "category":
        own = [name.split()[-1] for name in names]
        found["weight"] = ["Bol" in name for name in own]  # Bold, and BolIta of STIX
        found["slant"] = [any(each in name for each in ("Ita", "Oblique")) for name in own]
        found["typeface"] = [re.split("-|Bol|Ita", name)[0] for name in own]
    return {
        name: np.unique(each, return_inverse=True)[1].astype(np.int32)
        for name, each in found.items()
    }


def chosen(patterns: tuple[str, ...]) -> list[Path]:
    """Return the fonts whose style matches one of `patterns`.

    Raises:
        UserError: when none does.
    """
    files = all_fonts()
    found = [f for f in files if any(fnmatch.fnmatchcase(f.stem, p) for p in patterns)]
    if not found:
        known = ", ".join(file.stem for file in files)
        raise UserError(f"data.fonts: no font matches {', '.join(patterns)}; there are {known}")
    return found


def identity(data: Config) -> dict[str, Any]:
    """Return what decides the images: fonts, the library that draws, and the Unicode version."""
    files, text = chosen(data["fonts"]), "\n".join(vocabulary()) if data["text"] == "words" else ""
    return {
        # Without text, as before there was a choice.
        **({"words": hashlib.sha256(text.encode()).hexdigest()} if text else {}),
        "resolution": data["resolution"],
        "fonts": {file.stem: hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        "pillow": importlib.metadata.version("pillow"),
        "unicode": unicodedata.unidata_version,
    }


def draw(patterns: tuple[str, ...]) -> Iterator[tuple[int, str, NDArray[np.uint8]]]:
    """Yield (code point, style, image uint8 [32, 32]) of every distinct image that is not blank.

    Of identical images the first is kept, in the order of `all_fonts`, then of code points.
    """
    from fontTools.ttLib import TTFont
    from PIL import Image, ImageDraw, ImageFont

    seen = set()
    for file in chosen(patterns):
        with TTFont(file, lazy=True) as table:
            codes = sorted(table.getBestCmap() or ())
        font = ImageFont.truetype(str(file), POINTS, layout_engine=ImageFont.Layout.BASIC)
        for code in codes:
            if not unicodedata.name(chr(code), ""):
                continue
            canvas = Image.new("L", (SIZE, SIZE))
            middle = (SIZE // 2, SIZE // 2)
            ImageDraw.Draw(canvas).text(middle, chr(code), fill=255, font=font, anchor="mm")
            content = canvas.tobytes()
            if any(content) and content not in seen:
                seen.add(content)
                yield code, file.stem, np.asarray(canvas)


def splits(patterns: tuple[str, ...]) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Return (key, features) of each split; all fonts of one character are on one side."""
    sides: dict[str, list[tuple[str, dict[str, Any]]]] = {s: [] for s in ("train", "validation")}
    sides["test"] = []
    for code, style, image in draw(patterns):
        features = {
            "image": imaging.png(image),
            "text": unicodedata.name(chr(code)),
            "category": unicodedata.category(chr(code)),
            "style": style,
        }
        sides[python_stdlib.side(f"U+{code:04X}")].append((f"U+{code:04X} {style}", features))
    return sides
