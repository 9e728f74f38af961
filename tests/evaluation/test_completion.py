"""Bodies that run: how they are found and judged, how they are kept from harm, how drawn."""

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from research import data
from research.evaluation import bodies, completion, functions, greedy, likelihood, sandbox
from research.families import autoregressive
from tests import shapes

CODE = '''
import os


class Shape:
    def __init__(self, width):
        self.width, self.height = width, 2

    def area(self):
        """How large it is."""
        return self.width * self.height

    def _private(self):
        return os.listdir(self.width)


def S_IMODE(mode):
    return mode & 0o7777


def S_ISDIR(mode):
    return S_IFMT(mode) == S_IFDIR


def constant(x):
    return 3


def two_lines(x):
    x += 1
    return x


def unstable(x):
    return hash(str(x))


def no_value(x):
    return object()
'''


@pytest.fixture(scope="module")
def asked():
    return list(bodies._runnable(tuple(functions.of_file("stat.py", CODE.encode()))))


def test_only_bodies_that_can_be_told_apart_are_asked_for(asked):
    assert [each.name for each in asked] == ["area", "S_IMODE", "S_ISDIR"]
    area = asked[0]
    assert area.prompt == 'def area(self):\n    """How large it is."""\n    '
    assert area.line == "return self.width * self.height" and area.module == "stat"
    assert area.calls[0][0]["attributes"].keys() == {"width", "height"}
    for each in asked:
        assert len(each.calls) == len(each.results) <= bodies.CALLS and len({*each.results}) > 1


def test_what_does_the_same_is_right_and_a_loop_is_stopped(asked):
    true = [each.line for each in asked]
    found = completion.judged(asked, true)
    assert found["completion"].value == 1 and found["completion_distance"].value == 0
    # Another way to write it, a loop that never ends, and what is no Python.
    lines = ["return self.height * self.width", "while True: pass", "return S_IFMT(mode"]
    assert bodies.right(asked[1:], lines[1:]) == [False, False]
    once = f"return {asked[2].results[0]}"  # right for one call of several
    assert bodies.right(asked[2:], [once]) == [False]
    other = ["return 0o7777 & mode", "return not S_ISDIR(mode)", "return None", "exit()"]
    ask = [asked[1], asked[2], asked[1], asked[2]]
    found = completion.judged(ask, other)
    assert found["completion"].value == 0.25 and found["completion"].examples == 4
    assert found["completion_distance"].value > 5


@pytest.mark.parametrize(
    "one, other, edits",
    [(b"kitten", b"sitting", 3), (b"", b"abc", 3), (b"abc", b"abc", 0), (b"ab", b"ba", 2)],
)
def test_distance(one, other, edits):
    assert completion.distance(one, other) == completion.distance(other, one) == edits


HARM = {
    "reads": "return open('/etc/passwd').read()",
    "lists": "return listdir('/')",
    "writes": "return open('written', 'w').write('x')",
    "starts": "return system('touch written')",
    "forks": "return fork()",
    "kills": "return kill(getppid(), 9)",
    "leaves": "return _exit(0)",
    "imports": "import antigravity; return 1",
    "connects": "import socket; return socket.socket()",
    "allocates": "return len('a' * 10**10)",
    "calls itself": "return f(x)",
    "says much": "return 'a' * 20_000",
}


def test_harm_is_kept_away(tmp_path):
    sources = [f"def f(x):\n    {line}\n" for line in HARM.values()]
    sources.append("def f(x):\n    print('noise'); return [x, 'é', {2, 1}]\n")
    tasks = [{"module": "os", "source": s, "name": "f", "calls": [["1"], ["'a'"]]} for s in sources]
    *harmful, last = sandbox.run(tasks)
    assert dict(zip(HARM, harmful, strict=True)) == dict.fromkeys(HARM, [None, None])
    assert last == ["list[1, 'é', set{1, 2}]", "list['a', 'é', set{1, 2}]"]
    network = {"module": "socket", "source": "def f(x):\n    return socket().fileno()\n"}
    assert sandbox.run([{**network, "name": "f", "calls": [["1"]]}]) == [[None]]


@pytest.fixture(scope="module")
def config():
    config = shapes.autoregressive(vocab=256, length=24, depth=1)
    config.evaluation.batch_size = 8
    return config


@pytest.mark.slow
def test_completions_of_prompts_of_any_length_are_the_likeliest_bytes(config):
    """Held against whole windows, read once for each byte."""
    params = jax.jit(lambda key: autoregressive.init(config, key))(jax.random.key(0))
    params["head"] = jax.random.normal(jax.random.key(1), params["head"].shape)
    texts = ["a", "bc", "a longer one", "one that is too long, of which the end is read"]
    found = greedy.complete(config, params, texts, 4, b"nothing")
    logits = jax.jit(lambda tokens: likelihood.logits(config, params, {"tokens": tokens}))
    rows = [text.encode()[-20:] for text in texts]
    for _ in range(4):
        padded = np.array([list(row.ljust(25, b"\0")) for row in rows], np.int32)
        likeliest_BxL = np.asarray(logits(padded)).argmax(-1)
        ends = [likeliest_BxL[i, len(row) - 1] for i, row in enumerate(rows)]
        rows = [row + bytes([end]) for row, end in zip(rows, ends, strict=True)]
    assert found == [row[-4:] for row in rows]
    assert len(set(found)) > 1
    end = found[0][:1]
    assert greedy.complete(config, params, texts[:1], 4, end)[0].startswith(end)


def test_true_bodies_are_scored_byte_by_byte(config, monkeypatch, asked):
    monkeypatch.setattr(bodies, "runnable", lambda config: asked)
    wide = config.copy_and_resolve_references()
    wide.data.length = 80
    source = completion.examples(wide)
    batch = jax.tree.map(jnp.asarray, next(data.eval_batches(source, 4)))
    spelled = sum(len(each.line) + 1 for each in asked)
    even = jnp.zeros((4, 80, 256))
    knows = 20.0 * jax.nn.one_hot(batch["tokens"][:, 1:], 256)
    # One byte of the second body is missed, and bytes of prompts, which do not matter.
    place = int(batch["weights"][1].argmax())
    missed = knows.at[1, place].set(0.0).at[0, 0].set(0.0)
    for logits, forced in ((even, 0.0), (knows, 1.0), (missed, 2 / 3)):
        monkeypatch.setattr(likelihood, "logits", lambda *_, logits=logits: logits)
        sums = jax.tree.map(np.asarray, completion.update(wide, None, batch, None))
        found = completion.finish(wide, sums)
        assert found["completion_forced"].value == pytest.approx(forced) and sums["count"] == 3
        assert sums["bytes"] == spelled
        if logits is even:
            assert found["completion_likelihood"] == pytest.approx(8)
