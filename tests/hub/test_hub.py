"""Networks in the layout of transformers: there and back exactly, and what is refused."""

import json

import jax
import numpy as np
import pytest

from research import data, defaults, hub, presets, trained
from research.__main__ import main
from research.errors import UserError
from research.families import autoregressive
from research.hub import byte_tokenizer, card, command, folder, links
from research.run import record
from research.run.rows import read_rows
from research.train import train
from tests import shapes

SMALL = dict(width=16, depth=2, num_heads=4, vocab_size=19)
SCALED = dict(rotary_scaling="llama3", rotary_factor=8.0, rotary_length=16, num_kv_heads=2)
MODELS = {
    "llama": presets.LLAMA | SCALED | dict(mlp_ratio=2.5),
    "mixtral": presets.MISTRAL | presets.MIXTRAL | dict(num_kv_heads=2, num_experts=3)
    | dict(capacity_factor=1.5, attention="window", window=5),
    "gpt2": presets.GPT2 | dict(max_length=8, activation="relu2"),
    "gpt_neox": presets.PYTHIA,
}  # fmt: skip


def config_of(model):
    config = shapes.autoregressive()
    config.model = presets.model(model | SMALL)
    return config


def drawn(config):
    rng = np.random.default_rng(0)
    shaped = links.shapes(config)
    return links.nested({key: rng.normal(size=shaped[key]).astype("f4") for key in shaped})


def written(path, config, params, most=3000):
    """A folder of several files."""
    layout, theirs = hub.layout_of(config.model, 32)
    tensors = links.to_theirs(layout, config.model, params)
    with folder.whole(path) as there:
        folder.write_tensors(there, tensors, most)
        record.write_json(there / "config.json", theirs, checksum=False)
    return tensors


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back_is_exact(name, tmp_path):
    """Parameters and config, through several files and an index; the values are other than zero."""
    config = config_of(MODELS[name])
    params = drawn(config)
    tensors = written(tmp_path / "out", config, params)
    layout, model = folder.read_config(tmp_path / "out")
    assert layout is hub.load(name) and not hub.differences(config.model, model)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 2
    jax.tree.map(np.testing.assert_array_equal, folder.read(tmp_path / "out", config), params)
    assert sum(each.size for each in tensors.values()) == sum(
        leaf.size for leaf in jax.tree.leaves(params)
    )


QKV = {  # each one's tensors of queries, keys and values, and those apart, [heads 4, width]
    "llama": ("model.layers.1.self_attn.{}_proj.weight", lambda q, k, v: (q, k, v)),
    "gpt2": ("transformer.h.1.attn.c_attn.weight", lambda x: np.split(x.T, 3)),
    "gpt_neox": (
        "gpt_neox.layers.1.attention.query_key_value.weight",
        lambda x: [x.reshape(4, 3, 4, 16)[:, j].reshape(16, 16) for j in range(3)],
    ),
}


@pytest.mark.parametrize("name", QKV)
def test_every_head_is_where_they_look_for_it(name):
    """By the rows that each model slices: query heads in order, which share keys in order."""
    config = config_of(MODELS[name])
    params = drawn(config)
    tensors = links.to_theirs(hub.load(name), config.model, params)
    kernel = params["stack"]["blocks"]["attention"]["qkv"]["kernel"][1]
    pattern, apart = QKV[name]
    names = [pattern.format(each) for each in ("qkv" if "{}" in pattern else "x")]
    query, key, value = apart(*(tensors[each] for each in names))
    kv_heads, groups = kernel.shape[1], kernel.shape[2] - 2
    for head in range(4):
        n, g = head // groups, head % groups
        np.testing.assert_array_equal(query[4 * head : 4 * head + 4], kernel[:, n, g].T)
    for n in range(kv_heads):
        np.testing.assert_array_equal(key[4 * n : 4 * n + 4], kernel[:, n, groups].T)
        np.testing.assert_array_equal(value[4 * n : 4 * n + 4], kernel[:, n, groups + 1].T)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    config = config_of(MODELS["llama"])
    path = tmp_path_factory.mktemp("hub") / "llama"
    return path, config, written(path, config, drawn(config), most=10**9)


QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda t: t.pop(QUERY), f"has no tensor {QUERY}"),
        (lambda t: t.update({QUERY: t[QUERY][:8]}), rf"{QUERY} is \[8, 16\], .* \[16, 16\]"),
        (lambda t: t.update({"model.extra": t[QUERY]}), "has a tensor model.extra"),
        (lambda t: t.update({f"{QUERY}s": t.pop(QUERY)}), f"did you mean '{QUERY}s'"),
    ],
)
def test_a_wrong_tensor_is_named(llama, tmp_path, change, said):
    path, config, tensors = llama
    tensors = dict(tensors)
    change(tensors)
    folder.write_tensors(tmp_path, tensors)
    (tmp_path / "config.json").write_text((path / "config.json").read_text())
    with pytest.raises(UserError, match=said):
        folder.read(tmp_path, config)


@pytest.mark.parametrize(
    "change, said",
    [
        (dict(attention_bias=True), "attention_bias=True has no counterpart here; expected False"),
        (dict(head_dim=8), "head_dim=8"),
        (dict(hidden_act="relu"), "hidden_act='relu' is not one of silu"),
        (dict(rope_scaling={"rope_type": "dynamic", "factor": 2}), "rope_type='dynamic'"),
        (dict(rope_scaling={"rope_type": "llama3", "factor": 2, "low_freq_factor": 2}), "low_freq"),
        (dict(quantization_config={"bits": 4}), "quantization_config"),
        (dict(architectures=["BloomForCausalLM"]), "'BloomForCausalLM' is not one of Llama"),
        (dict(hidden_size=None), "is no config of LlamaForCausalLM: unsupported operand"),
    ],
)
def test_what_our_network_does_not_have_is_refused(llama, tmp_path, change, said):
    theirs = json.loads((llama[0] / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(theirs))
    with pytest.raises(UserError, match=said):
        folder.read_config(tmp_path)


def test_nothing_is_read_from_outside(llama, tmp_path):
    """Neither by a link nor by what an index says; and a file of another kind is told."""
    path, config, _ = llama
    for name in ("model.safetensors", "config.json"):
        out = tmp_path / name.partition(".")[0]
        out.mkdir()
        for other in ("model.safetensors", "config.json"):
            if other == name:
                (out / other).symlink_to(path / other)
            else:
                (out / other).write_bytes((path / other).read_bytes())
        with pytest.raises(UserError, match=f"{name} leads out of"):
            folder.read(out, config)
    index = tmp_path / "model" / folder.INDEX
    index.write_text(json.dumps({"weight_map": {QUERY: "../config/model.safetensors"}}))
    with pytest.raises(UserError, match="leads out of"):
        folder.read(tmp_path / "model", config)
    index.write_text(json.dumps({"weight_map": {QUERY: "config.json"}}))
    with pytest.raises(UserError, match="is not a safetensors file"):
        folder.read(tmp_path / "model", config)


def test_a_refusal_says_what_would_do():
    """The flags that it names make the default recipe's network exportable, and no more."""
    config = defaults.config("autoregressive", "markov")
    config.model.update(SMALL)
    config.model.update(value_embeddings=True, logit_softcap=5.0)
    with pytest.raises(UserError) as found:
        hub.layout_of(config.model, 32)
    flags = [word for word in str(found.value).split() if word.startswith("--config.")]
    keys = {flag.removeprefix("--config.model.").partition("=")[0] for flag in flags}
    both = {"qk_norm", "smear", "value_embeddings", "logit_softcap", "activation"}
    assert keys == both
    defaults.override(config, flags)
    assert hub.layout_of(config.model, 32)[1]["model_type"] == "llama"


def test_bytes_have_a_character_each():
    found = byte_tokenizer.characters()
    assert len(set(found)) == 256 and found[ord("a")] == "a" and found[ord(" ")] == "Ġ"
    assert byte_tokenizer.content()["model"]["vocab"]["Ā"] == 0


def run_config(data_folder, **init_from):
    config = shapes.autoregressive(activation="swiglu", num_kv_heads=1)
    config.data.folder = str(data_folder)
    config.train.steps, config.sampling.num = 4, 0
    config.init_from.update(init_from)
    return config


@pytest.mark.slow
def test_a_run_is_exported_and_trained_on(data_folder, tmp_path, capsys, caplog):
    """Its folder has the run's parameters: the first loss of a run that begins there is theirs."""
    config, run, out = run_config(data_folder), tmp_path / "study" / "run", tmp_path / "out"
    train(config, run)
    assert main(["export", "--run", str(run), "--format", "hf", "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    _, params = trained.load(run)
    jax.tree.map(np.testing.assert_array_equal, folder.read(out, config), params)
    assert not (out / "tokenizer.json").exists()  # its tokens spell no text
    assert "| parameters, total | " in (out / "README.md").read_text()
    assert main(["export", "--run", str(run), "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    theirs = json.loads((out / "config.json").read_text()) | {"rope_theta": 10_000.5}
    (out / "config.json").write_text(json.dumps(theirs))
    on = run_config(data_folder, run=str(out))
    train(on, tmp_path / "on")
    assert f"config.model.rotary_base=10000.0, and by {out} it is 10000.5" in caplog.text
    batch = next(data.batches(data.load(on.data, "train"), on.train.batch_size, on.seed))
    key = jax.random.key(0)
    expected, _ = jax.jit(lambda p, b: autoregressive.loss(on, p, b, key, key))(params, batch)
    first = read_rows(tmp_path / "on" / "metrics.jsonl")[0]
    assert first["step"] == 1 and first["loss"] == pytest.approx(float(expected), rel=1e-6)
    fresh = read_rows(run / "metrics.jsonl")[0]["loss"]
    assert abs(fresh - first["loss"]) > 1e-3


def test_a_card_says_the_law_of_its_part(tmp_path):
    law = dict(formula="L = E", parameters={"E": 1.5}, intervals={"E": [1, 2]}, part="text")
    law |= dict(loss_unit="bits/byte")
    record.write_json(tmp_path / "laws.json", {"parts": {"text": law}})
    (said,) = card._law(tmp_path / "run", "text")[1:]
    assert said == "L = E, with E = 1.5 [1, 2], in bits/byte."
    assert card._law(tmp_path / "run", "images") == []


def test_experts_that_drop_nobody_are_told_from_those_that_may():
    for factor in (0.0, 1.5, 3.0):
        config = config_of(MODELS["mixtral"] | dict(capacity_factor=factor))
        assert hub.layout_of(config.model, 32)[1]["num_local_experts"] == 3
    config = config_of(MODELS["mixtral"] | dict(capacity_factor=1.25))
    with pytest.raises(UserError, match=r"has capacity_factor=1.25, .*capacity_factor=0.0 can be"):
        hub.layout_of(config.model, 32)


def test_the_separator_of_a_tokenizer_has_its_name():
    """A run's own tokenizer goes along as it is; bytes have no name for theirs."""
    tokenizer = {"added_tokens": [{"id": 0, "content": "<|end|>"}, {"id": 1, "content": "x"}]}
    about = command._about(tokenizer, shapes.autoregressive())
    assert about["bos_token"] == about["eos_token"] == "<|end|>"
    assert "bos_token" not in command._about(byte_tokenizer.content(), shapes.autoregressive())


def test_a_run_of_another_family_is_refused(monkeypatch):
    monkeypatch.setattr(command.trained, "settings", lambda _: shapes.diffusion())
    with pytest.raises(UserError, match="config.family='diffusion'"):
        command.export("run", "out")
