"""Samples of a finished run: text as text, images as one grid, sounds in one file."""

import argparse
import contextlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from research import data, families, mesh, processes, run_tokenizer, trained
from research.data import sound
from research.data.tokenizers import Bytes, Tokenizer
from research.errors import UserError
from research.run import storage
from research.sampling import album, continuing, image_options, options, pictures


def sample_run(
    folder: str | Path,
    num: int,
    seed: int = 0,
    class_name: str = "",
    text: str = "",
    ema: float | None = None,
    images: argparse.Namespace | None = None,
) -> np.ndarray:
    """Draw `num` samples: tokens [num, length] int32, or images [num, height, width, channels].

    Args:
        class_name: of the data, of which all samples are to be; "" draws among them.
        text: that the sounds say or the images show; "" draws among those of the data, or none.
        ema: the relative width of the average of its weights that draws (`trained.load`).
        images: the options of `research.sampling.image_options`; with a film of them, what each
            step saw is returned, [steps, num, height, width, channels].

    Raises:
        UserError: when the folder holds no run, `num` is below 1, there is no such class, no such
            average, nothing that says a text, or an option that the run cannot follow.
    """
    if num < 1:
        raise UserError(f"--num {num} must be at least 1")
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed {seed} must be from 0 to {2**32 - 1}")
    settings = trained.settings(folder)
    if not hasattr(families.load(settings.family), "sample"):
        raise UserError(f"{folder}: family {settings.family!r} draws no samples")
    given: dict[str, Any] = {}
    if class_name:
        given["label"] = image_options.label(settings, class_name, num)
    if text:
        given |= _told(settings, text, num)
    if images and image_options.asked(images):
        given |= image_options.apply(settings, images, num)
    _check_memory(num, settings)
    _, params = trained.load(folder, ema)
    family = families.load(settings.family)
    if not (images and images.film):
        drawn = family.sample(settings, params, jax.random.key(seed), num, **given)
        return data.shown(settings.data, drawn)
    frames = family.film(settings, params, jax.random.key(seed), num, **given)
    return np.stack([data.shown(settings.data, frame) for frame in frames])


def _told(settings: ConfigDict, text: str, num: int) -> dict[str, np.ndarray]:
    """The tokens of a text, [num, G]: the one that each example begins with, or that of an image.

    Raises:
        UserError: for a run on data without such.
    """
    if settings.model.get("text_vocab"):
        tokens = data.sources.load(settings.data.name).tokens_of(settings.data, text)
        return {"text": tokens[None].repeat(num, 0)}
    if (found := data.beginnings(settings.data, [text])) is None:
        raise UserError(f"--text {text!r}: this run's examples begin with no text")
    return {"beginning": found.repeat(num, 0)}


def _check_memory(num: int, settings: ConfigDict) -> None:
    """Raise UserError where `num` samples, drawn as one batch, would not fit into memory.

    The estimate is of one layer's activations, of what attention keeps of every layer and of the
    samples themselves, in float32; where it is far too low, the system's own answer is to abort.
    """
    model, family = settings.model, families.load(settings.family)
    positions = settings.data.get("length", 1)  # without the ledger: the source need not be here
    if hasattr(family, "positions"):
        positions = family.positions(settings)
    width, heads = model.get("width") or 1, model.get("num_heads") or 1
    layer = (10 + 2 * (model.get("mlp_ratio") or 4)) * width + 2 * heads * positions
    values = positions * (layer + 2 * width * (model.get("depth") or 1))
    if "resolution" in settings.data:
        values += 32 * settings.data.resolution**2  # pixels of the grid, which is drawn larger
    most = _free_bytes() // (4 * values)
    if num > most:
        raise UserError(
            f"--num {num}: about {4 * values * num / 2**30:.3g} GiB of memory, of which "
            f"{_free_bytes() / 2**30:.3g} are free; at most {most}, and --seed draws others"
        )


def _free_bytes() -> int:
    """Memory that a program may still take; all there is where the system does not say."""
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(
            next(line for line in lines if line.startswith("MemAvailable")).split()[1]
        )
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def to_text(tokens: np.ndarray, tokenizer: Tokenizer | None = None) -> str:
    """Join token sequences, one block a sample; what is not UTF-8 shows as a box.

    Tokens that are no text are written as bytes if they can be, else as numbers.
    """
    if tokenizer is None and tokens.max(initial=0) > 255:
        return "".join(" ".join(map(str, row)) + "\n" for row in tokens)
    decode = (tokenizer or Bytes()).decode
    blocks = [decode(row).lstrip(b"\0").decode(errors="replace") for row in tokens]
    return ("\n" + "-" * 72 + "\n").join(block.replace("\0", "\n\n") for block in blocks) + "\n"


def write(
    folder: str | Path,
    num: int,
    seed: int = 0,
    out: str | Path | None = None,
    class_name: str = "",
    text: str = "",
    ema: float | None = None,
    images: argparse.Namespace | None = None,
) -> Path:
    """Sample a run and write the file: samples.txt, .png or .wav in its folder unless `out`.

    Raises:
        UserError: when `out` ends in none of these, or not as the samples need.
    """
    settings = trained.settings(folder).data
    rate, keys = settings.get("rate"), {"resolution": ".png", "length": ".txt"}
    # A source of TFDS has both keys; sounds have a rate, latents of images neither.
    suffixes = [".wav"] if rate else [suffix for key, suffix in keys.items() if key in settings]
    if hasattr(data.sources.load(settings.name), "shown"):
        suffixes = [".png"]
    film = images.film if images else None
    suffixes = [".png", ".gif"] if film else suffixes
    _check_suffix(out, suffixes)
    tokenizer = run_tokenizer.load(folder) if ".txt" in suffixes else None
    samples = sample_run(folder, num, seed, class_name, text, ema, images)
    name = "film" if film else "samples"
    if film and out and Path(out).suffix == ".gif":
        suffix, content = ".gif", pictures.to_gif(samples)
    elif film:
        suffix, content = ".png", pictures.strip(samples, film)
    else:
        suffix, content = _file(samples, rate, tokenizer)
    _check_suffix(out, [suffix])
    path = Path(out) if out else storage.path(folder) / f"{name}{suffix}"
    if processes.first():
        storage.write(path, content)
    return path


def _file(
    samples: np.ndarray, rate: int | None, tokenizer: Tokenizer | None = None
) -> tuple[str, bytes]:
    """The suffix and the content of a file of images, of sounds at `rate`, or of text."""
    if samples.ndim == 4:
        return ".png", pictures.to_png(samples)
    if rate:
        return ".wav", sound.to_wav(samples, rate)
    return ".txt", to_text(samples, tokenizer).encode()


def _check_suffix(out: str | Path | None, suffixes: list[str]) -> None:
    if out and Path(out).suffix not in suffixes:
        wanted = " or ".join(suffixes)
        raise UserError(f"--out {out}: this run's samples need a name ending in {wanted}")


def add_arguments(parser) -> None:
    """Arguments of `python -m research sample`."""
    parser.add_argument("--run", required=True, help="a run folder, runs/<study>/<trial>")
    parser.add_argument("--num", type=int, help="how many samples (default: 16; 1 of a prompt)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--class", dest="class_name", default="", help="of the data's classes")
    parser.add_argument(
        "--text", default="", help="that sounds say or images show, where the run reads a text"
    )
    parser.add_argument(
        "--ema", default="", metavar="WIDTH", help="of the average of its weights that draws"
    )
    parser.add_argument(
        "--album", action="store_true", help="draw pictures of how it draws, for its report"
    )
    parser.add_argument(
        "--out",
        help="file to write: .png for images (.gif with --film), .wav for sound, .txt for text, "
        ".jsonl after prompts",
    )
    prompts = parser.add_mutually_exclusive_group()
    prompts.add_argument("--prompt", help="text to go on from, which is printed with what follows")
    prompts.add_argument("--prompts", metavar="FILE", help="a text to go on from on each line")
    options.add_arguments(parser, tokens=64)
    parser.add_argument("--beam", type=int, default=0, help="search by so many beams")
    parser.add_argument("--guess_by", default="", metavar="RUN", help="a smaller run guesses ahead")
    parser.add_argument("--guesses", type=int, default=4, help="so many tokens at once")
    image_options.add_arguments(parser)


def run(args) -> int:
    """Sample and say where the file is; or go on from prompts, and say what was given and drawn."""
    mesh.split_cores()
    ema = trained.width(args.ema)
    if args.album:
        _refuse_beside_album(args)
        print(album.write(args.run, ema))
        return 0
    if args.prompt is None and args.prompts is None:
        _refuse_text_options(args)
        num = 16 if args.num is None else args.num
        said = (args.class_name, args.text, ema, args)
        print(write(args.run, num, args.seed, args.out, *said))
        return 0
    if args.class_name:
        raise UserError(f"--class {args.class_name}: prompts are of text, which has no classes")
    if args.text:
        raise UserError(f"--text {args.text!r}: a prompt is the text already")
    if given := image_options.asked(args):
        raise UserError(f"--{given[0]} says how images are drawn, and a prompt is of text")
    if args.out:
        _check_suffix(args.out, [".jsonl"])
    num = 1 if args.num is None else args.num
    if num < 1:
        raise UserError(f"--num {num} must be at least 1")
    given = _read_prompts(Path(args.prompts)) if args.prompts else [args.prompt]
    prompts = [str(each) for each in given for _ in range(num)]
    others = dict(beam=args.beam, guess_by=args.guess_by, guesses=args.guesses)
    together = 1 if args.beam or args.guess_by else len(prompts)  # those go one after another
    writer = continuing.open_run(args.run, together, ema)
    found = continuing.write(writer, prompts, options.settings(args, **others))
    for number, each in enumerate(found, start=1):
        print(f"given {number}: {each.prompt}\ndrawn {number}: {each.text}\n")
    if args.out and processes.first():
        lines = (json.dumps(each._asdict(), ensure_ascii=False) for each in found)
        storage.write(Path(args.out), "".join(f"{line}\n" for line in lines).encode())
    return 0


def _given(args) -> list[str]:
    """The arguments that are not as they are by default."""
    plain = argparse.ArgumentParser()
    add_arguments(plain)
    return [name for name, value in vars(args).items() if value != plain.get_default(name)]


def _refuse_beside_album(args) -> None:
    """Raise UserError for options of what is drawn: an album has pictures of its own."""
    for name in _given(args):
        if name not in ("run", "ema", "album"):
            said = name.removesuffix("_name")
            raise UserError(f"--{said} and --album cannot be had together")


def _refuse_text_options(args) -> None:
    """Raise UserError for options that say how a prompt is continued, where there is none."""
    given = _given(args)
    for name in (*continuing.Settings._fields, *continuing.Settings().drawing._fields):
        if name in given and name != "seed":
            raise UserError(f"--{name} says how text goes on: give --prompt or --prompts with it")


def _read_prompts(path: Path) -> list[str]:
    """The lines of a file.

    Raises:
        UserError: when it cannot be read, is no UTF-8, or has no line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--prompts {path}: {error}") from error
    if not lines:
        raise UserError(f"--prompts {path} has no line")
    return lines
