"""Every named character that the DejaVu and STIXGeneral fonts inside matplotlib can draw."""

import fnmatch
import hashlib
import importlib.metadata
import importlib.util
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
LABELS = ("category", "style")
# fonts: shell patterns of font file names; label: what the class of an image is.
DEFAULTS = {"resolution": 16, "fonts": ("DejaVu*", "STIXGeneral*"), "label": "category"}


def check(data: Config) -> None:
    """Raise UserError for a resolution or a label that is not there."""
    imaging.check_resolution(data)
    if data["label"] not in LABELS:
        hint = nearest(data["label"], LABELS)
        raise UserError(f"data.label is {data['label']!r}; it is category or style{hint}")


def outline(data: Config) -> source.Spec:
    """Grey images, labelled by Unicode category or by font style."""
    names = CATEGORIES if data["label"] == "category" else styles()
    shape = (data["resolution"], data["resolution"], 1)
    return source.images(shape, names, label=data["label"])


def fill(writer: Writer, data: Config) -> None:
    """Write every image with both of its labels, in the order that TFDS gave them."""
    from research.data import builders

    features = {"image": (SIZE, SIZE, 1), "text": "text"}
    features |= {"category": list(CATEGORIES), "style": styles()}
    builder = builders.prepared(data, features, lambda _: splits(data["fonts"]))
    builders.pack_images(writer, builder, data["resolution"], LABELS)


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
    files = chosen(data["fonts"])
    return {
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
