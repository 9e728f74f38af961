"""Questions about functions: what is asked, and what an oracle and a guess score."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import data
from research.data.tokenizers import Bytes
from research.errors import UserError
from research.evaluation import choice, functions, likelihood, prompts
from tests import shapes

WORDS = "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"
CODE = "".join(
    f'''
class Of{word.title()}:
    @staticmethod
    def {word}(x):
        """Return the {order} letter.

        And more."""
        # of the alphabet
        y = x + {place}
        return "{word}", y
'''
    for place, (word, order) in enumerate(
        zip(WORDS, "first second third fourth fifth sixth seventh eighth".split(), strict=True)
    )
)


@pytest.fixture
def asked(monkeypatch):
    found = functions.of_file("greek/letters.py", CODE.encode())
    monkeypatch.setattr(functions, "held_out", lambda config: found)
    config = shapes.autoregressive(vocab=256, length=choice.LONGEST)
    return config, found, choice.examples(config)


def test_functions_are_read_apart(asked):
    _, found, _ = asked
    assert [each.name for each in found] == list(WORDS)
    first = found[0]
    assert first.head == "def alpha(x):" and first.module == "greek.letters"
    assert first.docstring == "Return the first letter.\n\nAnd more."
    assert first.quoted == '"""Return the first letter.\n\nAnd more."""'
    assert first.indented == '    y = x + 0\n    return "alpha", y\n'
    assert first.owner and first.owner.name == "OfAlpha"
    assert functions.of_file("bad.py", b"def f(:\n") == functions.of_file("b.py", b"\xff") == []
    one_line = "def f(x): return x\ndef g(x):\n    '''Doc.'''; return x\n"
    assert functions.of_file("one.py", one_line.encode()) == []


def test_questions_have_one_right_option_of_about_its_length(asked):
    config, found, _ = asked
    bodies, names = choice.bodies(found), choice.names(found)
    assert len(bodies) == len(names) == 8
    for (prompt, options, place), function in zip(bodies, found, strict=True):
        assert options[place] == function.indented and len(set(options)) == choice.OPTIONS
        assert prompt == f'{function.head}\n    """{function.docstring}"""\n'.replace(
            "\nAnd", "\n    And"
        )
    assert (
        names[0][0] == "# Return the first letter.\ndef " and names[0][1][names[0][2]] == "alpha("
    )
    assert sorted(names[1][1], key=len) == ["eta(", "beta(", "zeta(", "alpha("]
    places = [place for _, _, place in bodies]
    assert sorted(places) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_windows_keep_the_end_of_a_prompt():
    encode = Bytes().encode
    tokens, weights = prompts.windows([("abcdef", "XY"), ("a", "XYZ")], 4, encode)
    assert [bytes(row.astype(np.uint8)) for row in tokens] == [b"defXY", b"aXYZ\0"]
    assert weights.tolist() == [[0, 0, 1, 1], [1, 1, 1, 0]]
    with pytest.raises(ValueError, match="do not fit"):
        prompts.windows([("abc", "12345")], 4, encode)
    assert prompts.spread(range(10), 4) == [0, 2, 5, 7] and prompts.spread([1], None) == [1]


def scored(config, source, nats, monkeypatch):
    monkeypatch.setattr(likelihood, "nats", nats)
    batch = next(data.eval_batches(source, len(source)))
    sums = choice.update(config, None, jax.tree.map(jnp.asarray, batch), None)
    return choice.finish(config, jax.tree.map(np.asarray, sums))


def test_an_oracle_knows_all_and_a_guess_a_quarter(asked, monkeypatch):
    config, _, source = asked
    rows = source.gather(range(len(source)))
    right = jnp.array(rows["tokens"][np.arange(len(source)), rows["answer"]])

    def oracle(config, params, batch, sign=1.0):
        known_B = (batch["tokens"][:, None] == right).all(-1).any(-1)
        return 3.0 - sign * known_B[:, None] * jnp.ones(config.data.length)

    def guess(config, params, batch):
        return jnp.ones((len(batch["tokens"]), config.data.length))

    def wrong(config, params, batch):
        return oracle(config, params, batch, -1.0)

    for nats, value in ((oracle, 1.0), (guess, 0.25), (wrong, 0.0)):
        found = scored(config, source, nats, monkeypatch)
        assert [found[task].value for task in choice.TASKS] == [value, value]
        low, high = found["choice_body"].interval
        assert 0 <= low <= value <= high <= 1 and low < high and found["choice_name"].examples == 8


def test_options_are_compared_by_byte_and_without_their_prompt(asked, monkeypatch):
    """Every option costs the same in all, so that by byte the longest one is the cheapest."""
    config, _, source = asked
    rows = source.gather(range(len(source)))
    inside = jnp.array(rows["weights"].reshape(-1, config.data.length))
    windows = jnp.array(rows["tokens"].reshape(-1, config.data.length + 1))
    longest = rows["weights"].sum(-1).argmax(1)

    def nats(config, params, batch):
        same = (batch["tokens"][:, None] == windows).all(-1).argmax(-1)
        within = inside[same]
        return jnp.where(within > 0, 30.0 / within.sum(-1, keepdims=True), 10.0)

    value = scored(config, source, nats, monkeypatch)["choice_name"].value
    of_names = rows["task"] == 1
    assert value == np.mean(longest[of_names] == rows["answer"][of_names])


def test_too_few_functions_are_said(asked):
    _, found, _ = asked
    with pytest.raises(UserError, match="finds 3 options"):
        choice.names(found[:3])
