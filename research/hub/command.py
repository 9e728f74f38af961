"""`export`: a run as a folder that `transformers` opens."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from research import data, hub, processes, run_tokenizer, trained
from research.data import tokenizers
from research.errors import UserError
from research.hub import byte_tokenizer, card, folder, links
from research.run import record, storage

TOKENIZER = tokenizers.FILE
SEPARATOR = 0  # the token between documents, with which every sample begins
EXAMPLE = """example:
  python -m research train --config experiments/presets.py:pythia_14m --workdir runs/pythia \\
    --config.train.steps=20 --config.train.warmup_steps=2 --config.train.batch_size=8 \\
    --config.data.length=64
  python -m research export --run runs/pythia --format hf --out exported

AutoModelForCausalLM.from_pretrained("exported") and AutoTokenizer open it. A run of any study can
be exported when it was trained without what no layout says, as the refusal of another one lists:
of the default recipe with
  --config.model.activation=swiglu --config.model.qk_norm=False --config.model.smear=False"""


def export(run: str | Path, out: str | Path) -> Path:
    """Write the newest checkpoint of `run` as a new folder `out`, whole or not at all.

    Raises:
        UserError: where there is no run, no layout can say its network, or `out` has something.
    """
    home, out = storage.path(run), storage.path(out)
    if storage.remote(out):
        raise UserError(f"--out {out}: name a folder on this machine")
    config = trained.settings(run)
    if config.family != "autoregressive":
        raise UserError(
            f"{run} is of config.family={config.family!r}; autoregressive runs can be exported"
        )
    layout, theirs = hub.layout_of(config.model, config.data.length)
    tokenizer = _tokenizer(home, config)
    _, params = trained.load(run)
    if not processes.first():
        return out
    with folder.whole(out) as there:
        folder.write_tensors(there, links.to_theirs(layout, config.model, params))
        ids = _ids(tokenizer)
        about = {"dtype": "float32", **ids}
        content = {folder.CONFIG: theirs | about, "generation_config.json": ids | _drawing(config)}
        if tokenizer is not None:
            content[TOKENIZER] = tokenizer
            content["tokenizer_config.json"] = _about(tokenizer, config)
        for name, each in content.items():
            record.write_json(there / name, each, checksum=False)
        record.write_text(there / "README.md", card.text(home, config, theirs["model_type"]))
    return out


def _tokenizer(home: Path, config: ConfigDict) -> dict[str, Any] | None:
    """The run's own tokenizer, that of bytes, or None where tokens spell no text."""
    found = run_tokenizer.load(home)
    if found is not None and found.content:
        return record.parse_json(found.content, home / TOKENIZER, dict[str, Any])
    spelled = found is not None or data.bytes_per_token(config.data) == 1
    return byte_tokenizer.content() if spelled else None


def _ids(tokenizer: dict[str, Any] | None) -> dict[str, int | None]:
    """Tokens that begin and end a text: the separator, where there are texts."""
    end = None if tokenizer is None else SEPARATOR
    return {"bos_token_id": SEPARATOR, "eos_token_id": end, "pad_token_id": end}


def _drawing(config: ConfigDict) -> dict[str, Any]:
    """How to draw, as `sample` does."""
    temperature = config.sampling.temperature
    how = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {}
    return {"max_length": config.data.length, **how}


def _about(tokenizer: dict[str, Any], config: ConfigDict) -> dict[str, Any]:
    """tokenizer_config.json; the separator has a name where the tokenizer gives it one."""
    named = [
        each["content"] for each in tokenizer.get("added_tokens", ()) if each["id"] == SEPARATOR
    ]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.data.length,
        "clean_up_tokenization_spaces": False,
        **{f"{end}_token": named[0] for end in ("bos", "eos") if named},
    }


def add_arguments(parser) -> None:
    """Arguments of `python -m research export`."""
    parser.add_argument("--run", required=True, help="a run folder, runs/<study>/<trial>")
    parser.add_argument(
        "--format", choices=("hf",), default="hf", help="that of Hugging Face's transformers"
    )
    parser.add_argument("--out", required=True, help="the folder to make")


def run(args) -> int:
    """Export and say where the folder is."""
    print(export(args.run, args.out))
    return 0
