"""Sources of data, one module each.

A source is a module with

    DEFAULTS -> its keys of config.data beside name and folder, each with its default
    outline(data) -> what its batches look like (`research.data.source.text`, `.images`), by the
        settings alone: nothing is prepared, and data.folder and data.seed are not read
    fill(writer, data) -> None; appends the arrays of each split to a `research.data.pack.Writer`

where `data` is its checked section of the config; and, where it needs them,

    check(data) raises UserError for a value that cannot be, before anything is prepared
    check_name(name, ours) raises UserError where one module serves many names and not this one
    identity(data) -> what decides the content of its arrays; else every value of `data` does
    words(identity) -> words for the name of the prepared folder
    view(split, arrays, spec, data, meta) -> a `research.data.source.Source`, where its examples are
        not what `open_split` makes of the arrays; `meta` is the pack's
    beginnings(data, texts) -> tokens [N, G] of each text, by default of all there may be, that an
        example begins with; None where these settings give examples without one
    pins(data) -> keys of `data`, as long as they are empty, that say the state of what it reads
        from elsewhere, such as the hash of a run: another state is another config
    shown(data, samples) -> what samples that a family learned to draw stand for, such as images
    of_latents(data, latent, label) -> a batch, without mask, of what `research.latents.nats` gives
    log_probability(data, samples) -> [N], where the distribution is known (`research.data.truth`)
    ON_REQUEST = True where `python -m research data` prepares it only when it is asked for by name

A source of text gives its documents instead of outline and fill (`research.data.texts`). Any other
name without a dot is one of TFDS (`research.data.sources.foreign`).
"""

import functools
from types import ModuleType
from typing import Any

from research import parts

SOURCES = {
    "python_stdlib": "research.data.sources.python_stdlib",
    "files": "research.data.sources.files",
    "hf_datasets": "research.data.sources.hf_datasets",
    "cpp_headers": "research.data.sources.cpp_headers",
    "english": "research.data.sources.english",
    "mixture": "research.data.sources.mixture",
    "glyphs": "research.data.sources.glyphs",
    "fashion_mnist": "research.data.sources.fashion_mnist",
    "markov": "research.data.sources.markov",
    "gaussian_mixture": "research.data.sources.gaussian_mixture",
    "gaussian_field": "research.data.sources.gaussian_field",
    "modes": "research.data.sources.modes",
    "ising": "research.data.sources.ising",
    "hidden_markov": "research.data.sources.hidden_markov",
    "hierarchy": "research.data.sources.hierarchy",
    "zipf_facts": "research.data.sources.zipf_facts",
    "teacher": "research.data.sources.teacher",
    "tones": "research.data.sources.tones",
    "latent_images": "research.data.sources.latent_images",
    "latent_codes": "research.data.sources.latent_codes",
    "speech": "research.data.sources.speech",
}
FOREIGN = "research.data.sources.foreign"
PROTOCOL = ("DEFAULTS", "outline", "fill")


def load(name: str) -> Any:
    """Return the source `name`: one of SOURCES, the dotted path of any module, or that of TFDS.

    Raises:
        UserError: for a dotted path that is no module, or a module that lacks part of the protocol.
    """
    table = SOURCES if "." in name.partition("/")[0] else {name: FOREIGN, **SOURCES}
    module = parts.load("data.name", name, table, ("DEFAULTS",))
    if hasattr(module, "documents") and not hasattr(module, "fill"):
        return _of_text(module)
    return parts.load("data.name", name, table, PROTOCOL)


@functools.cache
def _of_text(module: ModuleType) -> Any:
    from research.data import texts

    return texts.TextSource(module)
