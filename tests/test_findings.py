"""What docstrings of studies say was found, asked again of the tables that are kept beside them."""

import json

import numpy as np
import pandas as pd
import pytest

from experiments import mixture_law
from research.__main__ import main
from research.scaling import laws

OVER_FLOPS = ["--loss", "loss", "--over", "flops"]
RATES = ["--loss", "loss", "--rate", "rate", "--over"]


@pytest.fixture
def asked(capsys):
    """The JSON that a verb prints of rows of a table in experiments/, by arm."""

    def ask(verb, table, *words, part, also="True"):
        rows = f"part == '{part}' and {also}"
        command = [verb, f"experiments/{table}.csv", *words, "--where", rows]
        assert main([*command, "--json"]) == 0
        return {row["arm"]: row for row in json.loads(capsys.readouterr().out)["arms"]}

    return ask


def test_guesses_hold_by_the_size_of_the_guesser(asked):
    """The large network's size hardly moves alpha; the clock's gain is by it alone, and none."""

    def powers(loss):
        words = ("--loss", loss, "--over", "small_params", "--over", "large_params")
        return asked("power", "speculation", *words, part="text", also="guesses == 2")[""]

    held, clock, flops = map(powers, ("1 - alpha", "measured", "expected_by_flops"))
    assert held["small_params"]["high"] < -0.15 and abs(held["large_params"]["value"]) < 0.1
    assert clock["large_params"]["low"] > 0.15 and abs(clock["small_params"]["value"]) < 0.06
    assert flops["large_params"]["low"] > 0.15 and flops["small_params"]["high"] < -0.1
    pairs = pd.read_csv("experiments/speculation.csv")
    assert pairs.measured.max() < 1 and 2.3 < pairs.expected_by_flops.max() < 2.4
    assert (pairs.expected_tokens / pairs.tokens_a_look).between(0.97, 1.06).all()
    two = pairs[pairs.guesses == 2]
    x = np.stack([np.ones(10), 2**two.small_loss, 2**two.large_loss], 1)
    (_, small, large), (left,), *_ = np.linalg.lstsq(x, two.alpha, rcond=None)
    assert left < 0.03 * ((two.alpha - two.alpha.mean()) ** 2).sum()
    assert small == pytest.approx(-0.069, abs=5e-4) and large == pytest.approx(0.043, abs=5e-4)


@pytest.mark.parametrize("part", ["text", "images"])
def test_activations_are_flat_under_mup_alone(asked, part):
    found = {
        name: asked("power", "coordinate_check", "--loss", name, "--over", "size", part=part)
        for name in ("stream", "output")
    }
    for powers in found.values():
        assert abs(powers["adamw mup"]["size"]["value"]) < 0.03
        assert powers["adamw standard"]["size"]["low"] > 0.4
    assert abs(found["stream"]["muon standard"]["size"]["value"]) < 0.04
    assert found["output"]["muon standard"]["size"]["low"] > 0.15


@pytest.mark.parametrize("part", ["text_width", "images_width"])
def test_the_best_rate_of_adamw_falls_with_the_width(asked, part):
    found = asked("transfer", "transfer", *RATES, "size", part=part)
    assert found["adamw"]["says"] == "moves" and found["adamw"]["exponent"]["high"] < -0.45
    assert found["muon"]["moved"]["low"] > -1.6
    if part == "images_width":
        assert found["mup"]["says"] == "stays"


@pytest.mark.parametrize(
    "part, arms", [("text_horizon", ["muon"]), ("images_horizon", ["adamw", "muon"])]
)
def test_the_best_rate_falls_with_the_horizon(asked, part, arms):
    found = asked("transfer", "transfer", *RATES, "steps", part=part)
    for arm in arms:
        assert found[arm]["says"] == "moves" and found[arm]["exponent"]["high"] < -0.2


def test_mup_and_completep_have_the_lower_losses():
    runs = pd.read_csv("experiments/transfer.csv")
    for axis, arm in (("size", "mup"), ("depth", "completep")):
        for part in (
            f"{name}_{'width' if axis == 'size' else axis}" for name in ("text", "images")
        ):
            own = runs[(runs.part == part) & (runs[axis] == runs[runs.part == part][axis].max())]
            best = own.groupby(["arm", "rate"]).loss.mean().groupby("arm").min()
            assert best[arm] < best["adamw"]


def test_the_critical_batch_grows_as_the_loss_falls(capsys):
    def found(*words):
        assert main(["batch", "experiments/critical_batch.csv", *words, "--json"]) == 0
        return [row["critical_batch"] for row in json.loads(capsys.readouterr().out)["networks"]]

    narrow, wide = found("--target", "3.05")
    assert 8 < narrow["value"] < 15 and 12 < wide["low"] < narrow["high"]
    assert found()[1]["value"] > wide["value"]


def losses(table, *columns):
    """The loss by values of the columns, as `losses[a, b]`."""
    return pd.read_csv(f"experiments/{table}.csv").set_index(list(columns)).loss.to_dict()


def test_runs_of_all_ratios_follow_one_law():
    """At the docstring's parameters: a fit by the lab takes ten seconds."""
    runs = pd.read_csv("experiments/overtraining.csv")
    ratio, flops = runs.tokens / runs.params, 6 * runs.params * runs.tokens
    eta = 0.249
    law = 1.271 + (182.2 * ratio**eta + 663.2 * ratio**-eta) * flops**-eta
    off = np.log(runs.loss / law)
    assert off.std() < 0.0195 and off.groupby(runs.ratio).mean().abs().max() < 0.008
    # Lines are parallel above the floor: slopes from 10 to 160 tokens a parameter are like another.
    own = runs[runs.ratio.between(10, 160)].assign(above=np.log(runs.loss - 1.27))
    slopes = [np.polyfit(np.log(rows.flops), rows.above, 1)[0] for _, rows in own.groupby("ratio")]
    assert -0.27 < min(slopes) and max(slopes) < -0.23


def test_short_convolutions_and_lstms_take_less_compute_than_attention(capsys):
    command = ["compare", "experiments/mixers.csv", "--params", "params", "--data", "data"]
    command += ["--flops", "flops", "--loss", "loss", "--arms", "attention,convolution,lstm,mamba2"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["comparisons"]
    convolution, lstm, mamba2 = (each["multiplier"] for each in found)
    assert convolution["low"] > 1.3 and lstm["low"] > 1.1 and mamba2["high"] < 1
    assert found[0]["trend"]["high"] < 0


def test_likelihood_falls_with_the_loss_and_nothing_else_does_at_once(capsys):
    runs = pd.read_csv("experiments/emergence.csv")
    assert runs.loss.rank().corr(runs.likelihood.rank()) > 0.95
    assert not runs.completion.any() and not runs.forced.any()
    spaces = runs[runs.loss > 2.124]  # all that they write, to the last of 73 bytes
    assert spaces.distance.nunique() == 1 and runs[runs.loss < 1.9].distance.max() < 52
    assert runs.choice_body.between(0.21, 0.30).all() and runs.choice_name.min() > 0.3
    command = ["power", "experiments/emergence.csv", "--loss", "likelihood", "--over", "loss"]
    assert main([*command, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["arms"]
    assert found["loss"]["low"] < 1 < found["loss"]["high"]


def test_four_passes_are_nearly_as_good_as_new_text_and_many_more_harm():
    loss = losses("repetition", "arm", "size", "tokens")
    passes = {"small": {4: 2**18, 16: 2**20, 64: 2**22}, "middle": {4: 2**20, 16: 2**22}}
    cost = {
        (arm, size, times): loss[arm, size, tokens] - loss["all", size, tokens]
        for arm, own in passes.items()
        for times, tokens in own.items()
        for size in (16, 32, 48)
    }
    assert all(0.018 < value < 0.061 for (*_, times), value in cost.items() if times == 4)
    assert cost["middle", 16, 16] < 0.03 and cost["small", 48, 16] > 0.6
    least = {
        size: min(passes["small"], key=lambda times: loss["small", size, passes["small"][times]])
        for size in (16, 32, 48)
    }
    assert least == {16: 64, 32: 16, 48: 4}
    assert loss["small", 48, 2**22] - loss["small", 48, 2**18] > 1.5


def test_a_repeated_token_is_worth_less_by_the_pass_as_muennighoff_have_it():
    """At the lab's other parameters of runs to 16 passes, whose fit takes a minute."""
    runs = pd.read_csv("experiments/repetition.csv").query("epochs < 17")
    columns = {"N": "params", "D": "tokens", "U": "unique"}
    values = {name: runs[column].to_numpy(float) for name, column in columns.items()}
    own = {"E": 0.7404, "A": 39.78, "B": 38.8, "alpha": 0.3726, "beta": 0.2761, "R_N_star": 3.114}

    def off(passes):
        law = laws.MUENNIGHOFF.loss(own | {"R_D_star": passes}, **values)
        return np.abs(np.log(runs.loss / law)).mean()

    assert off(18.4) < 0.0155 and min(off(6.5), off(36)) > off(18.4) + 0.001
    assert off(3) > 2 * off(18.4)


def test_four_layers_gain_with_the_size_and_one_and_eight_lose():
    runs = pd.read_csv("experiments/shape_text.csv").query("seed == 0")
    loss = runs.assign(large=runs.inner > 1e5).set_index(["large", "depth", "budget"]).loss
    small, large = (
        loss[size].unstack("depth").pipe(lambda own: own.div(own[2], axis=0) - 1)
        for size in (False, True)
    )
    assert small[4].between(0, 0.02).all() and large[4].between(-0.027, -0.018).all()
    assert (small[8] > 0.03).all() and large[8].between(0.01, 0.03).all()
    assert small[1].iloc[-1] > 0.03 and large[1].is_monotonic_increasing and (large[1] > 0.01).all()


def test_larger_glyphs_fall_faster_while_their_floor_is_inside(capsys):
    table = "experiments/pixel_resolutions.csv"
    words = ["--loss", "loss", "--over", "flops", "--by", "part", "--where", "best == 1", "--json"]
    assert main(["power", table, *words]) == 0
    powers = {row["arm"]: row["flops"] for row in json.loads(capsys.readouterr().out)["arms"]}
    small, middle, large = (powers[f"pixels_{side}"] for side in (8, 16, 32))
    assert large["high"] < middle["low"] < middle["high"] < small["low"] < small["high"] < 0
    columns = ["--params", "params", "--data", "data", "--loss", "loss", "--json"]
    rows = ["--where", "part == 'pixels_16'"]
    assert main(["fit", table, "--law", "chinchilla", *columns, *rows]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 1.1 < found["intervals"]["E"][1] < 1.17
    assert 0.36 < found["parameters"]["beta"] < 0.38
    runs = pd.read_csv(table)
    best = runs[runs.best == 1].groupby("part")["size"]
    assert best.max().to_dict() == {"pixels_8": 48, "pixels_16": 32, "pixels_32": 16}


def test_a_longer_window_pays_to_128_bytes_and_more_the_larger_the_network():
    loss = losses("context", "size", "length", "position")
    gains = []
    for size in (24, 48, 64):
        whole = {length: loss[size, length, 0] for length in (16, 32, 64, 128, 256, 512)}
        assert min(whole, key=lambda length: whole[length]) == 128
        gains.append(1 - whole[128] / whole[16])
        early = [loss[size, length, 8] for length in (64, 128, 256, 512)]
        assert early == sorted(early)
        flat = [loss[size, 512, position] for position in (32, 64, 128, 256)]
        assert max(flat) / min(flat) - 1 < 0.015
        assert all(loss[size, 512, octave] - loss[size, 128, octave] > 0.09 for octave in (32, 64))
    assert gains == sorted(gains) and gains[0] > 0.05 and gains[-1] > 0.11


def test_experts_gain_at_every_size_and_least_at_the_largest(capsys):
    """FLOPs of the dense network over those of 2, 8 and 32 times the parameters, at equal loss."""
    columns = ["--params", "active", "--data", "tokens", "--flops", "flops", "--loss", "loss"]
    times = {}
    for size in (32, 64):
        words = ["--arms", "dense,e2,e8,e32", "--where", f"size == {size}", "--json"]
        assert main(["compare", "experiments/experts.csv", *columns, *words]) == 0
        found = json.loads(capsys.readouterr().out)["comparisons"]
        times[size] = {each["arms"][1]: each["multiplier"] for each in found}
        middle = times[size]["e8"]["value"]
        assert times[size]["e2"]["value"] < middle < times[size]["e32"]["value"] < 1.2 * middle
    for arm, large in times[64].items():
        assert times[32][arm]["low"] > large["value"] > large["low"] > 1, arm


def test_the_best_vocabulary_grows_with_compute(capsys):
    table = "experiments/vocabulary.csv"
    columns = ["--data", "tokens", "--flops", "flops", "--loss", "loss", "--json"]
    arms = ["--arms", "bpe_1024,bpe_4096", "--params", "params"]
    assert main(["compare", table, *arms, *columns]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["multiplier"]["low"] > 1 and found["trend"]["low"] > 0
    assert 1.6 < found["multiplier"]["value"] < 1.7
    rows = ["--params", "vocab", "--where", "size == 32 and vocab > 256"]
    assert main(["isoflop", table, *rows, *columns]) == 0
    found = json.loads(capsys.readouterr().out)
    low, high = found["params_interval"]
    assert 0.15 < low < found["params_exponent"] < high < 0.45
    runs = pd.read_csv(table)
    loss = runs.pivot_table(index=["size", "budget"], columns="vocab", values="loss")
    best = loss.idxmin(axis=1)
    assert best[32].to_list() == [2048, 2048, 4096, 4096]
    assert best[64].to_list() == [2048, 4096, 4096]
    assert (loss[256] > 1.1 * loss.min(axis=1)).all()


def test_alibi_holds_in_longer_windows_and_of_rotary_yarn_breaks_least(capsys):
    command = ["power", "experiments/length_generalisation.csv", *RATES[:2], "--over", "length"]
    command += ["--over", "budget", "--where", "kind == 'window' and arm != 'learned'", "--json"]
    assert main(command) == 0
    arms = json.loads(capsys.readouterr().out)["arms"]
    found = {row["arm"]: row["length"] for row in arms}
    assert found["alibi"]["high"] < 0
    assert all(each["low"] > 0.05 for arm, each in found.items() if arm != "alibi")
    order = ["rotary_yarn", "rotary_ntk", "rotary", "rotary_linear"]
    assert order == sorted(order, key=lambda arm: found[arm]["value"])
    assert found["none"]["high"] < found["rotary"]["low"] < found["none_in_two"]["value"]


def test_a_law_of_mixtures_holds_between_them_and_is_low_for_the_larger_run():
    runs = pd.read_csv("experiments/mixture_law.csv")
    between = {"python_stdlib": (1.9979, 0.7313, -2.438), "cpp_headers": (2.1798, 0.01217, 4.18)}
    overall = {
        "python_stdlib": {"E": 0.0002, "A": 50.32, "B": 13.78, "alpha": 0.11608, "t": -3.276},
        "cpp_headers": {"E": 0.0002, "A": 91.01, "B": 0.2386, "alpha": 0.13565, "t": 5.001},
    }
    for domain, (c, k, t) in between.items():
        own = runs[runs.domain == domain]
        rung = own[own["size"] == 48].set_index("share").loss
        off = rung / (c + k * np.exp(t * rung.index)) - 1
        missing = 0.0 if domain == "python_stdlib" else 1.0
        assert off[off.index.isin([0.125, 0.25, 0.5, 0.75, 0.875])].abs().max() < 0.0035
        assert 0.1 < off[missing] < 0.18
        far = own[own["size"] == 64]
        law = mixture_law.LAW.loss(overall[domain], C=far.flops.to_numpy(), r=far.share.to_numpy())
        assert (law / far.groupby("share").loss.transform("mean") - 1).between(-0.053, -0.036).all()


def test_the_best_size_of_a_diffusion_model_is_one_by_bits_and_by_what_is_drawn(capsys):
    table = "experiments/diffusion_isoflop.csv"
    columns = ["--params", "params", "--data", "data", "--flops", "flops", "--json"]
    found = {}
    for loss in ("loss", "frechet_unbiased"):
        assert main(["isoflop", table, *columns, "--loss", loss, "--method", "parabola"]) == 0
        found[loss] = json.loads(capsys.readouterr().out)
    bits, drawn = found["loss"], found["frechet_unbiased"]
    assert bits["params_exponent"] == pytest.approx(0.29, abs=0.01)
    assert drawn["params_exponent"] == pytest.approx(0.31, abs=0.01)
    assert bits["params_interval"][1] < 0.5  # Liang et al. (2024) have .57
    assert all(each["kept"] and not each["why"] for each in bits["optima"] + drawn["optima"])
    words = ["--loss", "frechet_unbiased", "--over", "flops", "--where", "best == 1", "--json"]
    assert main(["power", table, *words]) == 0
    (power,) = json.loads(capsys.readouterr().out)["arms"]
    assert -0.27 < power["flops"]["low"] and power["flops"]["high"] < -0.2
    runs = pd.read_csv(table).query("budget == 3e12").set_index("size")
    assert runs.loss.idxmin() == runs.frechet.idxmin() == 32
    assert runs.loss[128] / runs.loss[32] > 1.39


def test_what_is_predicted_is_one_law_and_how_errors_weigh_is_another(asked):
    found = asked("power", "diffusion_choices", *OVER_FLOPS, "--by", "arm", part="images")
    powers = {arm: row["flops"]["value"] for arm, row in found.items()}
    same = ("eps", "bound", "v", "v_of_eps")
    assert all(-0.105 < powers[arm] < -0.09 for arm in same)
    assert powers["velocity"] < -0.16 and powers["linear"] < -0.16
    loss = losses("diffusion_choices", "arm", "budget", "seed")
    for arm in ("edm", "cosine", "linear", "sigmoid", "min_snr"):
        assert loss[arm, 8e11, 0] > loss["eps", 5e10, 1] > loss["eps", 5e10, 0]
    apart = [loss["v_of_eps", *run] / loss["eps", *run] for run in ((2e11, 0), (8e11, 0))]
    assert max(abs(1 - each) for each in apart) < 0.005
    means = (
        pd.read_csv("experiments/diffusion_choices.csv")
        .groupby(["arm", "budget"])
        .mean(numeric_only=True)
    )
    drawn = means.frechet_unbiased.unstack()
    for arm in ("edm", "velocity", "cosine"):
        assert (drawn.loc[arm] < 0.82 * drawn.loc["eps"]).all()
        assert drawn.loc[arm, 2e11] < drawn.loc["eps", 8e11]  # with a quarter of its FLOPs
    assert drawn.loc["bound", 8e11] > drawn.loc["eps", 8e11] > drawn.loc["sigmoid", 8e11] + 14


def test_autoregression_needs_the_fewest_flops_for_bits_of_pixels_and_of_text(capsys):
    columns = ["--params", "params", "--data", "data", "--flops", "flops", "--loss", "loss"]
    most = {"pixels_masked": (3.7, 11.4), "pixels_gaussian": (6.1, 18.1), "text_masked": (9, 111)}
    for other, (low, high) in most.items():
        arms = f"{other.partition('_')[0]}_next,{other}"
        command = ["compare", "experiments/denoising_or_next.csv", "--by", "part", "--arms", arms]
        assert main([*command, *columns, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["multiplier"]
        assert low < 1 / found["high"] < 1 / found["low"] < high


def test_guidance_is_worth_more_the_more_was_learned_and_few_steps_are_enough(capsys):
    rows = pd.read_csv("experiments/sampling_compute.csv")
    plain = rows[rows.guidance == 1].pivot_table("frechet_unbiased", "budget", "steps")
    assert (plain[2] > 300).all() and (plain[4] > 1.25 * plain[8]).all()
    assert (plain[8] / plain[32]).between(0.9, 1.08).all()
    words = ["--loss", "frechet_unbiased", "--over", "flops", "--by", "guidance"]
    assert main(["power", "experiments/sampling_compute.csv", *words, "--where", "steps == 16",
                 "--json"]) == 0  # fmt: skip
    arms = json.loads(capsys.readouterr().out)["arms"]
    powers = [row["flops"]["value"] for row in arms]
    assert powers[2] < powers[0] - 0.05 and powers[4] > -0.1
    guided = rows[rows.steps == 16].pivot_table(
        ["frechet_unbiased", "recall"], "budget", "guidance"
    )
    distance = guided["frechet_unbiased"]
    assert distance.loc[2e11].idxmin() == 3 and distance.loc[8e11].idxmin() in (1.5, 2)
    recall = guided["recall"].loc[8e11]
    assert recall[2] > recall[1] + 0.08 and recall[5] < recall[2] - 0.12


def test_masked_diffusion_never_gets_worse_by_reading_again_and_is_not_the_best():
    runs = pd.read_csv("experiments/masked_repetition.csv")
    masked, following = (runs[runs.part == part] for part in ("masked", "next"))
    for _, own in masked.groupby("size"):
        assert (own.sort_values("epochs").loss.diff().dropna() < 0).all()
    wide = runs[runs["size"] == 32].pivot_table("loss", "epochs", "part")
    assert wide.next[16] < wide.masked[16] and wide.next[50] > wide.masked[50] + 1
    apart = wide.next - wide.masked
    share = -apart[16] / (apart[50] - apart[16])
    assert 16 * (50 / 16) ** share == pytest.approx(21, abs=1)
    narrow = runs[runs["size"] == 16].pivot_table("loss", "epochs", "part")
    assert (narrow.next < narrow.masked).all()
    assert following.loss.min() == pytest.approx(3.03, abs=0.005)
    assert masked.loss.min() == pytest.approx(3.17, abs=0.005)


def test_names_begin_to_be_heard_and_none_is_drawn():
    rows = pd.read_csv("experiments/text_to_image.csv")
    assert rows.clip_retrieval.max() < 0.01 and rows.clip_retrieval_real.min() > 0.5
    score = rows.pivot_table("clip_score", "budget", "guidance")
    assert (score.loc[[1e11, 3e11]].max() < 0.645).all() and score.loc[1e12, 4] > 0.73
    assert score.loc[1e12].is_monotonic_increasing
    assert rows[rows.budget < 1e12].clip_score_high.max() < rows.clip_score.max()


def test_few_images_are_memorised_late_and_by_the_larger_network():
    runs = pd.read_csv("experiments/memorising.csv")
    bound = runs.pivot_table("loss", ["size", "unique"], "steps")
    for size in (16, 32):
        assert abs(bound.loc[size, 100][3000] - bound.loc[size, 36_657][3000]) < 0.02
    few, more = bound.loc[64, 100], bound.loc[64, 1000]
    assert few[3000] < few[750] and few[12_000] > few[3000] + 0.5
    assert more.is_monotonic_decreasing
    assert runs.nearest_copies.max() < 0.02 < runs.nearest_copies_held_out.min()
    assert runs.nearest_pixels.max() < 0.5


def test_beyond_the_width_only_a_network_of_images_learns(asked):
    runs = pd.read_csv("experiments/x0_patches.csv")
    np.testing.assert_allclose(runs.excess - runs.loss, 2.24506, atol=1e-4)
    mean = runs.pivot_table("excess", "patch", "arm")
    assert mean.x0[4] > mean.eps[4] + 0.25 and abs(mean.eps[4] - mean.v[4]) < 0.01
    assert (mean.x0[8] < mean.v[8] - 1) and (mean.v[8] < mean.eps[8] - 2)
    assert mean.x0[16] < 1.7 and mean.v[16] > 3.5 and mean.eps[16] > 7.7
    found = asked("power", "x0_patches", "--loss", "excess", "--over", "patch", part="mixture")
    powers = {arm: row["patch"] for arm, row in found.items()}
    assert powers["x0"]["high"] < 0.31 and powers["v"]["low"] > 0.6 < 0.8 < powers["eps"]["low"]


def test_a_unet_is_worth_a_dit_where_its_channels_are_normed_together(capsys):
    runs = pd.read_csv("experiments/denoisers.csv")
    columns = ["--params", "params", "--data", "data", "--flops", "flops", "--json"]
    found = {}
    for other, loss in (("unet", "loss"), ("unet", "frechet_unbiased"), ("uvit", "loss")):
        words = ["--arms", f"dit,{other}", "--loss", loss, *columns]
        assert main(["compare", "experiments/denoisers.csv", *words]) == 0
        found[other, loss] = json.loads(capsys.readouterr().out)["multiplier"]
    assert all(found["unet", loss]["low"] < 1 < found["unet", loss]["high"]
               for loss in ("loss", "frechet_unbiased"))  # fmt: skip
    assert found["uvit", "loss"]["high"] < 0.5
    best = runs.groupby(["arm", "budget"])[["loss", "frechet_unbiased"]].min()
    assert best.loss["unet", 2e11] < best.loss["dit", 2e11] - 0.06
    assert best.loss["unet", 5e10] > best.loss["dit", 5e10] + 0.2
    drawn = best.frechet_unbiased
    assert drawn["unet_apart", 8e11] > 9 * drawn["unet", 8e11] and drawn["uvit", 2e11] > 300
    assert best.loss["unet_apart", 8e11] < 1.06 * best.loss["unet", 8e11]


def test_eight_calls_are_enough_and_a_student_needs_one():
    rows = pd.read_csv("experiments/solvers.csv")
    drawn = rows.pivot_table("frechet_unbiased", "sampler", "calls")
    flow = drawn.loc[["unipc", "dpm_solver_pp_2m", "heun", "dpm_solver_2"], 32]
    assert flow.between(34, 35.3).all()
    assert drawn[8]["unipc"] < 35 and drawn[8]["dpm_solver_pp_2m"] < 35 < 39 < drawn[8]["heun"]
    assert drawn[4].drop("progressive").idxmin() == "unipc" and drawn[4]["unipc"] < 41
    assert drawn[6]["dpm_solver_3"] > 330 and drawn[33]["dpm_solver_3"] < 37
    assert drawn.loc["dpm_solver_pp_sde", 8] < 24 < 28 < drawn.loc["dpm_solver_pp_sde", 32]
    student = drawn.loc["progressive", [8, 4, 2, 1]]
    assert student.is_monotonic_increasing and student[1] < 48
    others = drawn[4].dropna().drop(["unipc", "progressive"])
    assert (others > student[1]).all()
    assert drawn.loc["mean_flow", 1] > 690 and drawn.loc["mean_flow", 16] < 38
    assert drawn.loc["consistency", 1] > 4 * student[1]


def test_the_best_patch_gets_smaller_with_compute(capsys):
    runs = pd.read_csv("experiments/patches.csv")
    best = runs[runs.best == 1].pivot_table("patch", "resolution", "budget")
    assert (best.loc[8] == 1).all() and (best.loc[16] == 2).all()
    assert best.loc[32].to_list() == [4, 4, 2]
    assert runs[runs.patch == 8].loss.min() > 5 * runs[runs.resolution == 32].loss.min()
    columns = ["--params", "params", "--data", "data", "--flops", "flops", "--loss", "loss"]
    words = ["--arms", "2,4", "--where", "part == 'images_16'", *columns, "--json"]
    assert main(["compare", "experiments/patches.csv", *words]) == 0
    found = json.loads(capsys.readouterr().out)["multiplier"]
    assert 0.01 < found["low"] < found["value"] < 0.13 and found["high"] < 1
