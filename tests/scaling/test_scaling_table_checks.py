"""What a table must say before any fit: each check with the case that taught it."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from research.__main__ import main
from research.scaling import laws
from research.scaling.doubt.law_checks import law_findings
from research.scaling.doubt.table_checks import table_findings
from research.scaling.fit import fit_law
from research.scaling.table import from_frame
from tests.scaling.planted import codes, grid, losses, surface, table


@pytest.mark.parametrize(
    "name",
    ["convention", "loss_unit", "score_kind", "split", "eval_set", "ema", "timestep_weighting"],
)
def test_1_and_20_what_may_not_be_mixed_is_refused(name):
    # Porian 2024: counting the head moves the exponent from .835 to .706.
    runs = surface(0.002, None, **{name: ["one", "other"] * 24})
    assert 1 in codes(table_findings(runs))
    fit = fit_law(runs, bootstrap=100)
    assert fit.parameters is None and fit.refused is not None and name in fit.refused


def test_1_a_column_that_names_the_count_may_hold_one():
    # Porian 2024's own table: param_count says whether the head is counted, row by row.
    counts = np.where(np.arange(48) % 2 == 0, "with head", "without")
    fit = fit_law(surface(param_count=counts), bootstrap=100)
    assert fit.refused is not None and "param_count takes 2 values" in fit.refused
    assert surface(param_count=np.arange(48.0)).mixed == (), "a number is N itself"


def test_1_parameters_in_billions_are_noticed():
    params, data = grid()
    found = table_findings(table(params / 1e9, data / 1e9, losses(params, data)))
    assert "billions" in found[0].message


def test_2_flops_off_6nd():
    params, data = grid(8, 6, 3.0)
    head = 6 * (params + 2e6) * data
    (found,) = [f for f in table_findings(surface(C=head)) if f.code == 2]
    assert found.numbers["ratio"] == [pytest.approx(1.0002), pytest.approx(1.2)]
    assert 2 not in codes(table_findings(surface(C=6.2 * params * data)))
    images = replace(surface(C=384 * params * data), data_unit="images")
    assert 2 not in codes(table_findings(images)), "an image is 64 patches: a constant is not off"


def test_2_flops_counted_again_from_the_architecture():
    # Porian 2024: Kaplan left the head out, which at small width is most of the FLOPs.
    width = np.tile([64.0, 128, 256, 512, 1024, 2048, 4096, 8192], 6)
    depth, length, words = width / 64, 2048, 50_000
    data = np.repeat(np.geomspace(1e9, 1e12, 6), 8)
    params = 12 * depth * width**2 + words * width
    loss = losses(params, data)
    layers, head = 12 * depth * width**2, words * width
    scores = 2 * depth * width * length
    known = {"d_model": width, "n_layers": depth, "vocab_size": words, "seq_len": length}

    def found(flops, **columns):
        runs = table(params, data, loss, C=flops, **columns)
        return [f for f in table_findings(runs) if f.code == 2 and "convention" in f.numbers]

    for counted in (layers, layers + head, layers + scores, layers + head + scores):
        assert found(6 * counted * data, **known) == [], "any convention, but one on every row"
    some = np.where(np.arange(48) % 2 == 0, head, 0)
    (mixed,) = found(6 * (layers + some) * data, **known)
    assert mixed.numbers["rows"] >= 10 and mixed.numbers["ratio"][1] > 1.5
    (doubled,) = found(12 * (layers + head) * data, **known)
    assert doubled.numbers["convention"] == "layers, head and attention scores"
    assert found(12 * layers * data, d_model=width) == [], "no depth, no count"
    gated = {"d_model": width, "n_layers": depth, "intermediate_size": 8 * width}
    assert found(6 * depth * (4 * width**2 + 16 * width**2) * data, **gated) == []
    assert len(found(6 * layers * data, **gated)) == 1


def test_3_long_warmup():
    # Porian 2024: warm-up longer than the run deserves moves the exponent from .706 to .602.
    share = np.where(np.arange(48) < 5, 0.5, 0.02)
    (found,) = table_findings(surface(warmup_fraction=share))
    assert found.code == 3 and found.numbers == {"rows": 5, "largest": 0.5}


def test_4_schedule_that_outlives_the_run():
    # Hoffmann 2022: a cosine longer than the run is why Kaplan's exponent was .73.
    (found,) = table_findings(surface(schedule_overhang=np.where(np.arange(48) < 7, 3.0, 1.0)))
    assert found.code == 4 and found.numbers == {"rows": 7, "largest": 3.0}


def test_4_a_schedule_without_an_end_is_fine():
    # Hu 2024: branches that cool down from one trunk do as well as a cosine for each length.
    late = np.where(np.arange(48) < 7, 3.0, 1.0)
    assert table_findings(surface(schedule_overhang=late, schedule=["WSD"] * 48)) == []
    (found,) = table_findings(surface(schedule_overhang=late, schedule=["cosine"] * 48))
    assert found.numbers == {"rows": 7, "largest": 3.0}


def test_5_best_learning_rate_at_the_edge_of_its_sweep():
    params, data = (np.repeat(values, 3) for values in grid(8, 6, 3.0))
    rate = np.tile([1e-4, 3e-4, 1e-3], 48)
    middle = losses(params, data) * np.where(rate == 3e-4, 1.0, 1.01)
    assert 5 not in codes(table_findings(table(params, data, middle, learning_rate=rate)))
    edge = losses(params, data) * np.where(rate == 1e-3, 1.0, 1.01)
    found = [
        f for f in table_findings(table(params, data, edge, learning_rate=rate)) if f.code == 5
    ]
    assert found[0].numbers == {"edges": 48, "sweeps": 48}


def test_5_one_learning_rate_for_every_size():
    (found,) = table_findings(surface(learning_rate=np.full(48, 1e-3)))
    assert found.code == 5 and found.numbers["decades"] == pytest.approx(3)


def test_13_narrow_range():
    params, data = grid(6, 5, 1.0)
    (found,) = [f for f in table_findings(table(params, data, losses(params, data)))]
    assert found.code == 13 and found.numbers["N"] == pytest.approx(1)
    assert "10x" in found.message
    wide = table(params, data * 6 * 10 ** np.linspace(0, 3, 30), losses(params, data))
    assert 13 in codes(table_findings(wide))
    assert 13 not in codes(table_findings(wide, laws.FRONTIER)), "a frontier asks for C alone"


def test_15_checkpoints_of_a_run_are_notsurface():
    runs = surface(run_id=np.repeat([f"r{k}" for k in range(8)], 6))
    (found,) = table_findings(runs)
    assert found.code == 15 and found.numbers == {"rows": 48, "runs": 8}
    assert "--group run_id" in found.message
    (branches,) = table_findings(surface(trunk=np.repeat([f"t{k}" for k in range(8)], 6)))
    assert branches.code == 15 and branches.numbers == {"rows": 48, "trunks": 8}


def test_18_repeated_data_and_status():
    (found,) = table_findings(surface(epochs=np.where(np.arange(48) < 4, 8.0, 0.5)))
    assert found.code == 18 and found.numbers == {"rows": 4, "largest": 8.0}
    assert table_findings(surface(unique_tokens=np.full(48, 1e11)))[0].code == 18
    (found,) = table_findings(surface(status=["diverged"] + ["finished"] * 47))
    assert found.code == 18 and found.numbers == {"rows": 1}


def test_19_duplicate_rows():
    params, data = (np.append(values, values[:2]) for values in grid(8, 6, 3.0))
    loss = losses(params[:48], data[:48], noise=0.002)
    (found,) = table_findings(table(params, data, np.append(loss, loss[:2])))
    assert found.code == 19 and found.numbers["rows"] == [49, 50]
    seeds = table_findings(table(params, data, np.append(loss, loss[:2] * 1.001)))
    assert seeds == [], "two seeds of a size are no duplicates"


def test_20_two_losses_of_the_same_runs():
    # A harmonised file holds each run twice, its loss and the exponential of it.
    params, data = (np.tile(values, 2) for values in grid(8, 6, 3.0))
    loss = losses(params, data, noise=0.002)
    kinds = np.repeat(["raw", "exp"], 48)
    both = np.where(kinds == "raw", loss, np.exp(loss))
    (found,) = table_findings(table(params, data, both, condition=kinds))
    assert found.code == 20 and found.numbers["column"] == "condition"
    assert found.numbers["pairs"] == 48 and found.numbers["ratio"] > 2
    seeds = table(params, data, loss * np.where(kinds == "raw", 1, 1.02), seed_name=kinds)
    assert table_findings(seeds) == []


def test_20_a_loss_below_the_known_entropy():
    (found,) = table_findings(replace(surface(), floor=2.5))
    assert found.code == 20 and found.numbers["floor"] == 2.5
    assert table_findings(replace(surface(), floor=0.5)) == []


def _tasks(turn=0.0, guess=0.75, noise=0.003):
    """Gadre 2024: error = epsilon - k exp(-gamma loss), here of four answers."""
    loss = np.linspace(1.5, 5.5, 40)
    error = guess - 2.0 * np.exp(-0.9 * loss) + turn * np.maximum(2.5 - loss, 0)
    error += noise * np.random.default_rng(0).standard_normal(40)
    return pd.DataFrame({"val": loss, "error": error})


def _task_findings(frame, loss="error", **more):
    runs = from_frame(frame, loss=loss, extra={"loss": "val"}, **more)
    fit = fit_law(runs, laws.get("loss_to_error"), bootstrap=100)
    return [found for found in fit.findings if found.code == 22]


def test_22_runs_that_only_guess_are_counted():
    assert _task_findings(_tasks()) == []
    (found,) = _task_findings(_tasks(), choices=4)
    assert found.numbers["guess"] == 0.75
    assert found.numbers["rows"] == int((_tasks()["error"] > 0.73).sum()) > 3
    assert _task_findings(_tasks()[:20], choices=4) == []


def test_22_a_curve_that_turns_is_no_law():
    # McKenzie 2023: tasks whose error falls with scale and rises again.
    (found,) = _task_findings(_tasks(turn=0.8))
    assert found.name == "not monotone" and found.numbers["variable"] == "loss"
    params, data = grid(5, 12, 3.0)
    turned = losses(params, data, noise=0.002) * np.where(data > 1e11, 1.3, 1.0)
    (found,) = law_findings(table(params, data, turned), laws.CHINCHILLA)
    assert found.numbers == {"variable": "D", "curves": 5, "turned": 5}
    fine = table(params, data, losses(params, data, noise=0.002))
    assert law_findings(fine, laws.CHINCHILLA) == []


def test_22_an_accuracy_is_no_loss():
    frame = _tasks().assign(val_acc=lambda rows: 1 - rows["error"])
    (found,) = _task_findings(frame, loss="val_acc")
    assert "fit 1 - accuracy" in found.message
    params, data = grid(8, 6, 3.0)
    grows = 1 - 0.3 * losses(params, data) / losses(params, data).max()
    (found,) = law_findings(table(params, data, grows))
    assert "grows with compute" in found.message
    assert law_findings(surface()) == []


def test_every_check_is_raised_tested_and_listed(capsys):
    with pytest.raises(SystemExit) as left:
        main(["fit", "--checks"])
    assert left.value.code in (0, None)
    listed = [int(line[:2]) for line in capsys.readouterr().out.splitlines()[::2]]
    assert listed == list(range(1, 24))
    here = Path(__file__).parent
    tests = "".join(path.read_text() for path in here.glob("test_scaling_*.py"))
    tested = {
        int(k)
        for words in re.findall(r"def test_((?:\d+_(?:and_)?)+)", tests)
        for k in re.findall(r"\d+", words)
    }
    library = here.parents[1] / "research" / "scaling"
    source = "".join(path.read_text() for path in library.rglob("*.py"))
    raised = {int(k) for k in re.findall(r"(?:Finding(?:\.of)?\(\s*|check |\[)(\d+)[,: ]", source)}
    assert set(listed) <= tested, sorted(set(listed) - tested)
    assert set(listed) <= raised, sorted(set(listed) - raised)
