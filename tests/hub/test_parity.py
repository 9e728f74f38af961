"""Our networks against those of `transformers`: the same logits from the same tensors."""

import contextlib
import io
import json

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import defaults, hub, recipes, trained
from research.families import autoregressive
from research.hub import command, folder, links
from research.models import common, decoder
from research.train import train
from tests import shapes

WHY = "needs requirements-interop.txt"
torch = pytest.importorskip("torch", reason=WHY)
transformers = pytest.importorskip("transformers", reason=WHY)

SMALL = dict(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
    vocab_size=19, max_position_embeddings=64, initializer_range=0.3,
)  # fmt: skip
GROUPED = SMALL | dict(num_key_value_heads=2, rms_norm_eps=1e-3)
LLAMA_3 = dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0)
LLAMA_3 |= dict(high_freq_factor=4.0, original_max_position_embeddings=16)
YARN = dict(rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=16)
GPT2 = dict(n_embd=32, n_layer=2, n_head=4, vocab_size=19, n_positions=64, initializer_range=0.3)
GPT2 |= dict(bos_token_id=0, eos_token_id=0)
MODELS = {
    "gpt2": ("GPT2", GPT2),
    "gpt2, untied": ("GPT2", GPT2 | dict(tie_word_embeddings=False, activation_function="relu")),
    "llama": ("Llama", GROUPED | dict(rope_parameters=LLAMA_3)),
    "llama, tied": ("Llama", GROUPED | dict(rope_parameters=YARN, tie_word_embeddings=True)),
    "mistral": (
        "Mistral", GROUPED | dict(sliding_window=5, hidden_act="gelu_pytorch_tanh"),
    ),
    "mixtral": (
        "Mixtral", GROUPED | dict(num_local_experts=4, num_experts_per_tok=2),
    ),
    "pythia": ("GPTNeoX", SMALL),
    "neox": ("GPTNeoX", SMALL | dict(use_parallel_residual=False, hidden_act="gelu_new")),
}  # fmt: skip
TOKENS = np.random.default_rng(0).integers(0, 19, (2, 24))


def logits_of(config, params, tokens):
    @jax.jit
    def run(params, tokens):
        x, *_ = common.apply(autoregressive.network(config), params, tokens)
        return decoder.logits(config, params, x)

    return np.asarray(run(params, jnp.asarray(tokens)))


def theirs_of(model, tokens):
    with torch.no_grad():
        return model.eval()(torch.tensor(np.asarray(tokens))).logits.numpy()


def quietly(function, *words, **how):
    """What `function` gives, without its progress bars."""
    with contextlib.redirect_stderr(io.StringIO()):
        return function(*words, **how)


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_transformers(name, tmp_path):
    """Drawn there and read here to 1e-4; written here and opened there to the last bit."""
    kind, keys = MODELS[name]
    torch.manual_seed(0)
    head = "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM"
    model = getattr(transformers, head)(getattr(transformers, f"{kind}Config")(**keys))
    with torch.no_grad():
        for each in model.parameters():
            each += 0.2 * torch.randn_like(each) * (each.ndim == 1)  # norms and biases
    quietly(model.save_pretrained, tmp_path / "theirs")
    config = shapes.autoregressive(length=TOKENS.shape[1])
    layout, config.model = folder.read_config(tmp_path / "theirs")
    params = folder.read(tmp_path / "theirs", config)
    expected = theirs_of(model, TOKENS)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(logits_of(config, params, TOKENS), expected, atol=1e-4)

    again, content = hub.layout_of(config.model, 64)
    assert again is layout
    with folder.whole(tmp_path / "ours") as there:
        folder.write_tensors(there, links.to_theirs(layout, config.model, params), most=9000)
        (there / "config.json").write_text(json.dumps(content))
    opened = quietly(transformers.AutoModelForCausalLM.from_pretrained, tmp_path / "ours")
    np.testing.assert_array_equal(theirs_of(opened, TOKENS), expected)


def test_numbers_of_half_the_bits_are_read(tmp_path):
    """As large models are published: in bfloat16."""
    config = transformers.LlamaConfig(**GROUPED)
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    quietly(model.save_pretrained, tmp_path)
    ours = shapes.autoregressive()
    ours.model = folder.read_config(tmp_path)[1]
    found = folder.read(tmp_path, ours)["embedding"]
    expected = model.model.embed_tokens.weight.detach().float().numpy()
    np.testing.assert_array_equal(found, expected)


def test_an_exported_run_speaks(data_folder, tmp_path):
    """A few steps on bytes: its logits, its tokens of any text, and text that it draws."""
    config = defaults.config("autoregressive", "python_stdlib")
    config.model.update(activation="swiglu", qk_norm=False, smear=False)
    config.data.update(folder=str(data_folder), files=("json/*", "email/*", "asyncio/*"), length=32)
    config.size, config.train.steps, config.evaluation.examples = 16, 20, 64
    train(recipes.apply(config), tmp_path / "run")
    out = command.export(tmp_path / "run", tmp_path / "out")
    model = quietly(transformers.AutoModelForCausalLM.from_pretrained, out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    text = "def f(é):\n  return  Ā \0x <|endoftext|>"
    ids = tokenizer(text)["input_ids"]
    assert ids == list(text.encode()) and tokenizer.decode(ids) == text
    params = trained.load(tmp_path / "run")[1]
    ours = logits_of(config, params, np.array([ids]))
    np.testing.assert_allclose(theirs_of(model, [ids]), ours, atol=1e-4)
    drawn = model.generate(**tokenizer("import", return_tensors="pt"), max_new_tokens=8)
    assert tokenizer.decode(drawn[0]).startswith("import") and drawn.shape[1] > 6
