"""The options of drawing images: by which walk, how guided, and from which images."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image, UnidentifiedImageError

from research import config as configs
from research import data, families, trained
from research.errors import UserError, nearest

# Options that set a key of config.sampling for this one call.
SETTINGS = ("sampler", "steps", "step_schedule", "guidance", "repeats")
# Options of what is drawn from, by what a family's `sample` calls it (`REQUESTS` there).
REQUESTS = {
    "negative": "away_B",
    "guide_by": "guide",
    "init": "image_BxHxWxC",
    "mask": "mask_BxHxWx1",
    "enlarge": "small_BxhxwxC",
    "to_class": "to_B",
    "minus": "minus_BxHxWxC",
    "plus": "plus_BxHxWxC",
    "strength": "strength",
    "interpolate": "path",
    "film": "film",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    group = parser.add_argument_group("images, of a run that draws them in steps")
    add = group.add_argument
    add("--sampler", help="such as ddim; default: the run's config.sampling.sampler")
    add("--steps", type=int, help="of the walk; the run's by default")
    add("--step_schedule", help="where the steps lie, such as log_snr")
    add("--repeats", type=int, help="how often each step is made, to agree better with --mask")
    add("--guidance", type=float, help="scale of the push away from no class; 1 is none")
    add("--negative", metavar="NAME", help="a class to be pushed away from, in its place")
    add("--guide_by", metavar="RUN", help="a worse run to be pushed away from, or a classifier")
    add("--init", metavar="IMAGE", help="an image to begin with")
    add("--strength", type=float, help="share of the steps that change it (default: 0.5)")
    add("--mask", metavar="IMAGE", help="of --init: white is drawn anew, black stays")
    add("--enlarge", metavar="IMAGE", help="an image whose pixels are means of those drawn")
    add("--to_class", metavar="NAME", help="draws the noise of --init, found as --class, as this")
    add("--minus", metavar="IMAGE", help="whose noise is taken from that of --init")
    add("--plus", metavar="IMAGE", help="whose noise is added to it, and what is left is drawn")
    add("--film", type=int, metavar="N", help="N of the steps beside each other; all in a .gif")
    add("--interpolate", action="store_true", default=None, help="from one noise to another")


def asked(args: argparse.Namespace) -> list[str]:
    """The options that were given, of those here."""
    return [name for name in (*SETTINGS, *REQUESTS) if getattr(args, name) is not None]


def apply(settings: ConfigDict, args: argparse.Namespace, num: int) -> dict[str, Any]:
    """Set what was asked in the config of a run, and return what its family's `sample` takes.

    Raises:
        UserError: for an option that this run cannot follow, naming it and what it could.
    """
    family, given = families.load(settings.family), asked(args)
    for name in given:
        known = name in settings.sampling if name in SETTINGS else name in requests(family)
        if not known:
            raise UserError(
                f"--{name}: this run, of family {settings.family!r}, does not draw by it"
            )
    _check_together(args)
    for name in SETTINGS:
        if name in given:
            configs.assign(settings, f"sampling.{name}", getattr(args, name))
    found: dict[str, Any] = {}
    if "guide_by" in given:
        found["guide"] = _guide(settings, args.guide_by)
    plain = settings.copy_and_resolve_references()
    if found:  # pushed by another run, it needs no images of no class
        plain.sampling.guidance = 1.0
    families.check(plain, data.outline(settings.data))
    if "negative" in given:
        found["away_B"] = label(settings, args.negative, num, "negative")
    if "to_class" in given:
        found["to_B"] = label(settings, args.to_class, num, "to_class")
    if "interpolate" in given:
        found["path"] = True
    return found | _images(settings, args, num)


def requests(family: Any) -> list[str]:
    """The options of images that a family's `sample` can follow."""
    known = (*getattr(family, "REQUESTS", ()), *(["film"] if hasattr(family, "film") else ()))
    return [name for name, own in REQUESTS.items() if own in known]


def label(settings: ConfigDict, name: str, num: int, option: str = "class") -> np.ndarray:
    """The number of a class, [num].

    Raises:
        UserError: for a run that is given no class, or a name that is none (nearest named).
    """
    names = data.outline(settings.data).get("class_names", [])
    if not settings.model.get("num_classes") or not names:
        raise UserError(f"--{option} {name}: this run is given no class")
    if name not in names:
        few = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
        raise UserError(f"--{option} {name!r} is not one of {few}{nearest(name, names)}")
    return np.full(num, names.index(name), np.int32)


def _check_together(args: argparse.Namespace) -> None:
    """Raise UserError for options that need one another, or exclude one another."""
    for name, needed in (
        ("mask", "init"),
        ("strength", "init"),
        ("to_class", "init"),
        ("to_class", "class_name"),
        ("minus", "plus"),
        ("plus", "minus"),
        ("plus", "init"),
        ("negative", "guidance"),
    ):
        if getattr(args, name) is not None and not getattr(args, needed):
            raise UserError(f"--{name} needs --{needed.removesuffix('_name')}")
    for one, other in (
        ("init", "enlarge"),
        ("mask", "to_class"),
        ("strength", "to_class"),
        ("plus", "mask"),
        ("plus", "strength"),
        ("plus", "to_class"),
        ("repeats", "plus"),
        ("repeats", "to_class"),
        ("negative", "guide_by"),
        ("init", "interpolate"),
    ):
        if getattr(args, one) is not None and getattr(args, other) is not None:
            raise UserError(f"--{one} and --{other} cannot be had together")
    if args.film is not None and args.film < 2:
        raise UserError(f"--film {args.film} must be at least 2 steps")
    if args.strength is not None and not 0 <= args.strength <= 1:
        raise UserError(f"--strength {args.strength} must be from 0 to 1")


def _guide(settings: ConfigDict, run: str) -> tuple[ConfigDict, Any]:
    """Config and parameters of the run that guides.

    Raises:
        UserError: when it saw other images or classes, or says nothing that could guide.
    """
    theirs = trained.settings(run)
    family = families.load(theirs.family)
    if theirs.family != settings.family and not hasattr(family, "logits"):
        raise UserError(
            f"--guide_by {run}: a run of family {theirs.family!r} guides none of "
            f"{settings.family!r}; one of the same family does, or a classifier"
        )
    for key in ("image_shape", "discrete", "num_classes"):
        if key in theirs.model and theirs.model[key] != settings.model[key]:
            raise UserError(
                f"--guide_by {run}: its config.model.{key} is {theirs.model[key]}, this run's "
                f"{settings.model[key]}"
            )
    if hasattr(family, "logits") and not theirs.model.get("noisy", True):
        raise UserError(
            f"--guide_by {run}: its config.model.noisy is False: it has not learned from noisy "
            "images, which are all that it would see"
        )
    if not settings.model.num_classes and hasattr(family, "logits"):
        raise UserError(f"--guide_by {run}: a classifier needs a run on classes to guide")
    return trained.load(run)


def _images(settings: ConfigDict, args: argparse.Namespace, num: int) -> dict[str, Any]:
    """The images that were given, [num, ...], and the share of the steps that changes them."""
    height, width, channels = settings.model.get("image_shape") or (0, 0, 0)
    found: dict[str, Any] = {}
    if args.init is not None:
        found["image_BxHxWxC"] = read(settings, args.init, (height, width), channels, "init")
        whole = any(each is not None for each in (args.mask, args.to_class, args.plus))
        found["strength"] = (1.0 if whole else 0.5) if args.strength is None else args.strength
    for name in ("minus", "plus"):
        if (path := getattr(args, name)) is not None:
            found[REQUESTS[name]] = read(settings, path, (height, width), channels, name)
    if args.mask is not None:
        mask = read(settings, args.mask, (height, width), 1, "mask")
        found["mask_BxHxWx1"] = (mask > 127).astype(np.float32)
    if args.enlarge is not None:
        small = read(settings, args.enlarge, None, channels, "enlarge")
        factor = height // small.shape[0]
        if factor < 2 or small.shape[:2] != (height // factor, width // factor) or height % factor:
            raise UserError(
                f"--enlarge {args.enlarge}: {small.shape[1]}x{small.shape[0]} pixels are no whole "
                f"part of this run's {width}x{height}, such as {width // 2}x{height // 2}"
            )
        own = settings.model.image_factor
        if settings.model.image_condition == "low_resolution" and factor != own:
            raise UserError(
                f"--enlarge {args.enlarge}: this run enlarges by {own}, from {width // own}x"
                f"{height // own} pixels"
            )
        found["small_BxhxwxC"] = small
    arrays = {name: each for name, each in found.items() if isinstance(each, np.ndarray)}
    return found | {name: np.repeat(each[None], num, 0) for name, each in arrays.items()}


def read(
    settings: ConfigDict, path: str, size: tuple[int, int] | None, channels: int, option: str
) -> np.ndarray:
    """An image file as uint8 [height, width, channels].

    Raises:
        UserError: when it is none, or of another size or mode than the run's images.
    """
    if not settings.model.get("discrete", True):
        raise UserError(f"--{option}: this run's images are no 8-bit pixels")
    try:
        with Image.open(Path(path)) as opened:
            opened.load()
            pixels, mode = np.asarray(opened), opened.mode
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"--{option} {path}: not an image that can be read ({error})") from error
    wanted = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    if mode != wanted:
        raise UserError(f"--{option} {path}: its mode is {mode}, and {wanted} is needed")
    if size and pixels.shape[:2] != size:
        raise UserError(
            f"--{option} {path}: {pixels.shape[1]}x{pixels.shape[0]} pixels, and this run's images "
            f"have {size[1]}x{size[0]}"
        )
    return pixels.reshape(*pixels.shape[:2], channels)
