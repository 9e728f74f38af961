"""`dryrun` and `sweep --dry_run --topology` from the command line, on CPU devices."""

import json

import pytest

from research import config, cost, study
from research.__main__ import main
from research.dryrun import gpu, price

SMALL = [
    "--config.model.depth=2",
    "--config.model.width=64",
    "--config.model.num_heads=4",
    "--config.model.vocab_size=256",
    "--config.data.length=32",
    "--config.train.batch_size=16",
    "--config.evaluation.batch_size=16",
    "--config.hardware.attention=dense",  # these two compile faster in one piece
    "--config.hardware.loss_chunks=1",
]
BIG = ["dryrun", "--config", "experiments/lm_7b.py"]
HERE = [*BIG, "--topology", "cpu:8", *SMALL]


@pytest.fixture
def answer(capsys, tmp_path, monkeypatch):
    """Run `dryrun ... --json` where no data can be prepared, and return what it printed."""

    def run(*words):
        monkeypatch.setenv("ISOFLOP_DATA", str(tmp_path / "none"))
        assert main([*HERE, *words, "--json"]) == 0
        assert not (tmp_path / "none").exists()
        return json.loads(capsys.readouterr().out)

    return run


def test_the_answer_has_every_part_and_they_agree(answer):
    found = answer("--mesh", "fsdp=4,tensor=2")
    chip, step, run = found["per_chip"], found["step"], found["run"]
    assert set(chip) == {
        "arguments_bytes",
        "temporaries_bytes",
        "peak_bytes",
        "capacity_bytes",
        "fits",
    }
    assert chip["peak_bytes"] >= chip["arguments_bytes"] + chip["temporaries_bytes"]
    assert chip["fits"] is True and found["compile_seconds"] > 0 and found["unknown"] == []
    chosen = study.load_config(BIG[2], SMALL, num_devices=8, prepared=False)
    assert step["flops"] == cost.ledger(chosen).step_flops
    assert step["seconds_floor"] == max(
        step["seconds_compute"], step["seconds_memory"], step["seconds_network"]
    )
    assert step["mfu_bound"] == pytest.approx(step["flops"] / (8 * 1e11 * step["seconds_floor"]))
    assert run["tokens"] == chosen.train.steps * 16 * 32 and run["steps"] == chosen.train.steps
    assert run["chip_hours"] == pytest.approx(8 * step["seconds_floor"] * run["steps"] / 3600)
    assert found["mesh"] | {"fsdp": 4, "tensor": 2} == found["mesh"] and found["remat"] == "full"


def test_arguments_are_what_the_shardings_say(answer):
    """Parameters and two moments, split over fsdp and tensor, the scalars beside them."""
    chosen = study.load_config(BIG[2], SMALL, num_devices=8, prepared=False)
    params = cost.ledger(chosen).total_params
    found = answer("--mesh", "fsdp=8")
    norms = 4 * 64 + 64  # of two layers, and the last one: on every device
    split = 3 * 4 * ((params - norms) / 8 + norms)
    assert 0 <= found["per_chip"]["arguments_bytes"] - split <= 16 / 8 * 33 * 4 + 64


def test_a_price_of_ones_own(answer, tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"currency": "EUR", "per_chip_hour": {"cpu": 2.0}}))
    run = answer("--prices", str(path))["run"]
    assert run["price"] == 2 * run["chip_hours"] > 0 and run["currency"] == "EUR"


@pytest.mark.slow
def test_search_writes_a_preset_that_dryrun_and_flags_read(answer, tmp_path):
    path = tmp_path / "preset.json"
    best = answer("--search", "--compile", "1", "--out", str(path))
    ladder = best["ladder"]
    assert [rung["seconds_floor"] for rung in ladder] == sorted(r["seconds_floor"] for r in ladder)
    assert json.loads(path.read_text()) == best["hardware"]
    again = answer("--hardware", str(path))
    for key in ("mesh", "remat", "step"):
        assert again[key] == best[key]
    flags = [*config.preset_flags(str(path)), "--config.hardware.remat=offload"]
    changed = study.load_config(BIG[2], [*SMALL, *flags], num_devices=8, prepared=False)
    assert changed.hardware.remat == "offload"  # what is said after a preset wins over it
    assert dict(changed.hardware.mesh) == best["mesh"]


def test_the_table_for_people_has_units_and_the_verdict(capsys):
    assert main([*HERE, "--mesh", "fsdp=8"]) == 0
    printed = capsys.readouterr().out
    for words in ("GiB", ": fits", "compute", "HBM", "network", "tokens/s", "chip-hours", "USD"):
        assert words in printed
    assert "all-gather along fsdp" in printed and "MiB" in printed


def test_gpus_are_counted_and_what_is_not_compiled_is_unknown(answer, monkeypatch):
    monkeypatch.setattr(gpu, "compiles", lambda: False)
    found = answer("--topology", "h100:16", "--mesh", "data=2,fsdp=8")
    assert {"per_chip.temporaries_bytes", "per_chip.peak_bytes"} < set(found["unknown"])
    assert {"compile_seconds", "collectives.compiled_bytes"} < set(found["unknown"])
    assert found["per_chip"]["fits"] and found["memory_ledger"]["peak_bytes"] > 0
    sent = {tuple(each["axes"]): each["ledger_bytes"] for each in found["collectives"]}
    assert sent[("data",)] > 0 and all(e["compiled_bytes"] is None for e in found["collectives"])


@pytest.mark.slow
def test_a_sweep_is_priced_trial_by_trial(capsys):
    spec = "experiments/quickstart.py:markov"
    flags = ["--config.model.depth=2", "--config.size=16", "--config.hardware.mesh.data=8"]
    words = ["sweep", "--config", spec, "--dry_run", "--topology", "cpu:8", *flags]
    assert main(words) == 0
    printed = capsys.readouterr().out
    loaded = study.load(spec, flags, num_devices=8, prepared=False)
    for group in loaded.groups:
        for trial in group:
            assert trial.id in printed
    assert "1 shapes compiled" in printed and "every trial fits" in printed
    assert "chip-hours" in printed and price.load().date in printed


@pytest.mark.parametrize(
    "words, said",
    [
        ([*BIG], "--topology"),
        ([*BIG, "--topology", "v5e:3x3"], "nearest: v5e:4x4"),
        ([*BIG, "--topology", "v5x:4x4"], "no chip 'v5x'"),
        ([*HERE, "--slices", "0"], "--slices 0 must be at least 1"),
        ([*HERE, "--mesh", "fdsp=8"], "no axis 'fdsp' (did you mean 'fsdp'?)"),
        ([*HERE, "--mesh", "fsdp=many"], "expected fsdp=NUMBER"),
        ([*HERE, "--mesh", "fsdp=3"], "devices in multiples of 3, there are 8"),
        ([*HERE, "--mesh", "tensor=8"], "tensor=8 does not divide"),
        ([*HERE, "--mesh", "fsdp=8", "--config.train.batch_size=12"], "not divisible by 8"),
        ([*HERE, "--mesh", "stage=4,fsdp=2"], "stage=4 does not divide config.model.depth=2"),
        (
            [*BIG, "--topology", "h100:8", "--mesh", "fsdp=8"],
            "=splash is a kernel for TPUs; for h100",
        ),
        ([*HERE, "--prices", "none.json"], "cannot read none.json"),
        ([*HERE, "--hardware", "none.json"], "cannot read none.json"),
        ([*HERE, "--compile", "0"], "--compile 0 must be at least 1"),
        ([*HERE, "--config.hardware.remat=some"], "remat"),
        ([*HERE, "--config.data.name=dolmaa"], "dolma"),
        (
            ["sweep", "--config", "experiments/quickstart.py:markov", "--topology", "cpu:8"],
            "--topology goes with --dry_run, or with a --backend",
        ),
    ],
)
def test_a_mistake_is_one_line(capsys, words, said):
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and said in lines[0]


@pytest.mark.parametrize("content, said", [("[]", "expected an object"), ("{", "is not JSON")])
def test_a_preset_that_is_none(capsys, tmp_path, content, said):
    path = tmp_path / "preset.json"
    path.write_text(content)
    assert main([*HERE, "--hardware", str(path)]) == 2
    assert said in capsys.readouterr().err


def test_a_preset_with_a_key_that_is_none(capsys, tmp_path):
    path = tmp_path / "preset.json"
    path.write_text('{"mesh": {"fdsp": 8}}')
    assert main([*HERE, "--hardware", str(path)]) == 2
    assert "did you mean 'fsdp'" in capsys.readouterr().err
