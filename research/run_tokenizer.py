"""The tokenizer of a run: its file is in the run's folder, so that the run is read without data."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from research import config as configs
from research import data
from research.data import tokenizers
from research.data.settings import data_folder
from research.errors import UserError
from research.run import files, storage


def keep(folder: Path, config: ConfigDict, source: data.Source) -> dict[str, Any] | None:
    """Keep the tokenizer of a run's data in its `folder`, and return what provenance says of it.

    It is None where none was trained: for bytes, and for what is no text.

    Raises:
        UserError: when the folder has another one, by which its checkpoints were trained.
    """
    if source.tokenizer is None:
        return None
    found = tokenizers.kept(data_folder(config.data), source.tokenizer)
    path = folder / tokenizers.FILE
    if not path.exists():
        storage.write(path, found.content)
    elif (before := tokenizers.read(path).sha256) != found.sha256:
        raise UserError(
            f"{path} is another tokenizer ({before[:12]}) than that of the data prepared here "
            f"({found.sha256[:12]}); choose another --workdir or delete {folder}"
        )
    return {key: source.tokenizer[key] for key in ("kind", "vocab", "sha256")}


def load(folder: str | Path) -> tokenizers.Tokenizer | None:
    """Return what decodes the tokens of the run in `folder`; None where they are no text.

    Raises:
        UserError: when its file is gone, or is not the one that the run was trained with.
    """
    home = storage.path(folder)
    about = configs.read(home)["data"]
    if about.get("tokenizer", tokenizers.BYTE) == tokenizers.BYTE:
        return tokenizers.Bytes() if "tokenizer" in about else None
    found, said = tokenizers.read(home / tokenizers.FILE), files.read_provenance(home)
    trained = said.get("tokenizer", {}).get("sha256")
    if found.sha256 != trained:
        raise UserError(
            f"{home / tokenizers.FILE} ({found.sha256[:12]}) is not the tokenizer that the run was "
            f"trained with ({str(trained)[:12]}): restore it"
        )
    return found
