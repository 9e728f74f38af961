"""What `sample` asks of a diffusion run: every option that cannot be followed is one line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from research import config as configs
from research import data, defaults, recipes, study, train
from research.__main__ import main
from research.run import files, record
from research.sampling import pictures


def save(folder: Path, name: str, pixels: np.ndarray, mode: str = "L") -> None:
    Image.fromarray(pixels).convert(mode).save(folder / name)


@pytest.fixture(name="runs", scope="module")
def make_runs(tmp_path_factory, data_folder):
    """Configs of runs that were never trained, and images of all sorts."""
    folder = tmp_path_factory.mktemp("image_options")

    def write(name, family="diffusion", resolution=8, text="none", **model):
        config = defaults.config(family, "glyphs")
        config.size, config.budget, config.recipe = 16, 1e11, "image_ladder"
        config.data.update(folder=str(data_folder), resolution=resolution, label="style", text=text)
        config.model.image_shape = (resolution, resolution, 1)
        config.model.update(model)
        complete = study.check(recipes.apply(config), prepared=False)
        record.write_json(folder / name / "config.json", configs.to_plain(complete))

    write("classes", num_classes=18, class_dropout=0.1)
    write("certain", num_classes=18)
    write("plain")
    words = data.outline({**data.default("glyphs"), "text": "words"})["text"]
    names = dict(text_vocab=words["vocab_size"], text_length=words["length"], condition="cross")
    write("names", text="words", **names)
    write("larger", resolution=16, num_classes=18, class_dropout=0.1)
    write("enlarged", image_condition="low_resolution")
    write("judge", "classifier", num_classes=18)
    square = np.full((8, 8), 100, np.uint8)
    save(folder, "square.png", square)
    save(folder, "colour.png", square, "RGB")
    save(folder, "large.png", np.full((16, 16), 100, np.uint8))
    save(folder, "odd.png", np.full((3, 3), 100, np.uint8))
    save(folder, "half.png", np.full((4, 4), 90, np.uint8))
    save(folder, "quarter.png", np.full((2, 2), 90, np.uint8))
    save(folder, "black.png", np.zeros((8, 8), np.uint8))
    (folder / "text.png").write_text("no image")
    return folder


@pytest.mark.parametrize(
    "run, words, said",
    [
        ("classes", "--sampler dim", "sampling.sampler='dim' is not one of"),
        ("classes", "--sampler dim", "did you mean 'ddim'"),
        ("classes", "--steps 0", "config.sampling.steps=0 must be at least 1"),
        ("classes", "--step_schedule tmie", "did you mean 'time'"),
        ("classes", "--guidance -1", "must not be negative"),
        ("certain", "--guidance 3", "needs config.model.class_dropout above 0"),
        ("plain", "--guidance 3", "needs config.model.class_dropout above 0"),
        ("names", "--guidance 3", "needs config.model.text_dropout above 0"),
        ("plain", "--class DejaVuSans", "this run is given no class"),
        ("plain", "--text LATIN", "--text 'LATIN': this run's examples begin with no text"),
        ("names", "--text LETTRE", "no name has 'LETTRE' (did you mean 'LETTER'?)"),
        ("names", "--text ?", "has 0 words; expected 1 to"),
        ("names", "--text LETTER", "no checkpoint that can be read"),
        ("classes", "--class DejaVuSerifs", "did you mean 'DejaVuSerif'"),
        ("classes", "--guidance 2 --negative Arial", "--negative 'Arial' is not one of"),
        ("classes", "--negative DejaVuSans", "--negative needs --guidance"),
        ("classes", "--init nothing.png", "--init nothing.png: not an image that can be read"),
        ("classes", "--init IN/text.png", "not an image that can be read"),
        ("classes", "--init IN/large.png", "16x16 pixels, and this run's images have 8x8"),
        ("classes", "--init IN/colour.png", "its mode is RGB, and L is needed"),
        ("classes", "--mask IN/square.png", "--mask needs --init"),
        ("classes", "--init IN/square.png --mask IN/odd.png", "--mask"),
        ("classes", "--init IN/square.png --mask IN/colour.png", "its mode is RGB"),
        ("classes", "--init IN/square.png --strength 1.5", "--strength 1.5 must be from 0 to 1"),
        ("classes", "--strength 0.5", "--strength needs --init"),
        ("classes", "--enlarge IN/odd.png", "3x3 pixels are no whole part of this run's 8x8"),
        ("classes", "--enlarge IN/square.png", "no whole part"),
        ("classes", "--init IN/square.png --enlarge IN/odd.png", "cannot be had together"),
        ("classes", "--to_class DejaVuSans", "--to_class needs --init"),
        ("classes", "--init IN/square.png --to_class DejaVuSans", "--to_class needs --class"),
        (
            "classes",
            "--init IN/square.png --class DejaVuSans --to_class DejaVuSnas",
            "--to_class 'DejaVuSnas' is not one of",
        ),
        ("classes", "--interpolate --init IN/square.png", "cannot be had together"),
        ("classes", "--init IN/square.png --plus IN/square.png", "--plus needs --minus"),
        ("classes", "--minus IN/square.png --plus IN/square.png", "--plus needs --init"),
        (
            "classes",
            "--init IN/square.png --minus IN/square.png --plus IN/large.png",
            "large.png: 16x16 pixels, and this run's images have 8x8",
        ),
        ("classes", "--guidance 2 --guide_by IN/nothing", "not a run folder"),
        ("classes", "--guidance 2 --guide_by IN/larger", "its config.model.image_shape is"),
        ("classes", "--guidance 2 --guide_by IN/judge", "its config.model.noisy is False"),
        ("enlarged", "--enlarge IN/quarter.png", "this run enlarges by 2, from 4x4 pixels"),
        (
            "classes",
            "--init IN/square.png --class DejaVuSans --to_class DejaVuSerif --repeats 2",
            "--repeats and --to_class cannot be had together",
        ),
        ("classes", "--guidance 2 --guide_by IN/plain", "its config.model.num_classes is 0"),
        ("classes", "--prompt a --guidance 2", "--guidance says how images are drawn"),
        ("classes", "--temperature 0.5", "--temperature says how text goes on"),
        ("classes", "--album --class DejaVuSans", "--class and --album cannot be had together"),
        ("classes", "--album --steps 4", "--steps and --album cannot be had together"),
        ("classes", "--num 0", "--num 0 must be at least 1"),
        ("classes", "--film 1", "--film 1 must be at least 2 steps"),
        ("classes", "--out film.gif", "need a name ending in .png"),
        ("classes", "", "no checkpoint that can be read"),
    ],
)
def test_what_cannot_be_drawn(runs, capsys, run, words, said):
    given = [word.replace("IN/", f"{runs}/") for word in words.split()]
    assert main(["sample", "--run", str(runs / run), *given]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and said in lines[0], lines
    assert not list((runs / run).glob("samples*"))


@pytest.fixture(name="trained", scope="module")
def make_trained(runs, tmp_path_factory):
    """The run on classes after a few steps, whose images are noise."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    config = configs.from_plain(configs.read(runs / "classes"))
    config.train.update(steps=4, warmup_steps=1, decay_steps=1, batch_size=8)
    config.budget, config.sampling.num, config.sampling.steps = None, 0, 4
    config.evaluation.update(examples=8, batch_size=8)
    train.train(config, folder)
    return folder


@pytest.mark.slow
def test_what_can_be_drawn(runs, trained, tmp_path, capsys):
    def draw(name, words=""):
        out, given = tmp_path / name, words.replace("IN/", f"{runs}/").split()
        assert main(["sample", "--run", str(trained), "--num", "4", "--out", str(out), *given]) == 0
        with Image.open(out) as picture:
            return np.asarray(picture), getattr(picture, "n_frames", 1)

    plain = draw("plain.png", "--class DejaVuSans")[0]
    assert np.array_equal(plain, draw("again.png", "--class DejaVuSans --guidance 1")[0])
    # A network that has learned nothing draws the signs of its noise, whatever is asked of it.
    for words in (
        "--guidance 3",
        "--guidance 3 --negative DejaVuSerif",
        "--sampler ddpm",
        "--step_schedule log_snr",
    ):
        assert draw("other.png", f"--class DejaVuSans {words}")[0].shape == plain.shape
    enlarged = draw("enlarged.png", "--class DejaVuSans --enlarge IN/half.png")[0]
    assert not np.array_equal(plain, enlarged)
    # A mask that is black keeps the image; so does a walk of no length.
    same = draw("same.png", "--init IN/square.png --mask IN/black.png")[0]
    assert np.array_equal(same, draw("still.png", "--init IN/square.png --strength 0")[0])
    assert np.array_equal(same[:32, :32], np.full((32, 32), 100))
    film = draw("film.png", "--class DejaVuSans --film 3")[0]
    assert film.shape == (4 * 9 * 4, 3 * 9 * 4)
    assert draw("film.gif", "--class DejaVuSans --film 3")[1] > 1
    path = draw("path.png", "--class DejaVuSans --interpolate")[0]
    assert np.array_equal(path[:32, :32], plain[:32, :32])
    transfer = "--class DejaVuSans --to_class DejaVuSerif --init IN/square.png"
    assert draw("transfer.png", transfer)[0].shape == plain.shape
    sum_ = "--class DejaVuSans --init IN/square.png --minus IN/black.png --plus"
    nothing, other = (draw("sum.png", f"{sum_} IN/{each}.png")[0] for each in ("black", "square"))
    back = "--class DejaVuSans --to_class DejaVuSans --init IN/square.png"
    assert np.array_equal(nothing, draw("back.png", back)[0])
    assert not np.array_equal(nothing, other)
    guided = draw("guided.png", f"--class DejaVuSans --guidance 2 --guide_by {trained}")[0]
    assert np.array_equal(guided, plain)

    capsys.readouterr()
    assert main(["sample", "--run", str(trained), "--album"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert folder == trained / files.ALBUM
    captions = {path.stem: pictures.caption(path.read_bytes()) for path in folder.glob("*.png")}
    assert sorted(captions) == ["between", "filled", "film", "guidance"]
    assert captions["guidance"].startswith("Guided by 1, 2, 4, 8")
    with Image.open(folder / "filled.png") as picture:
        held, kept, *drawn = np.asarray(picture).reshape(4, 9, 4, -1)[:, :8, 0].transpose(0, 2, 1)
    left = np.arange(len(held)) % 36 < 16
    for row in (kept, *drawn):
        assert np.array_equal(row[left], held[left])
    assert (kept[np.arange(len(held)) % 36 == 20] == 127).all()


def test_an_album_needs_a_run(tmp_path, capsys):
    assert main(["sample", "--run", str(tmp_path), "--album"]) == 2
    assert "not a run folder" in capsys.readouterr().err
