"""Scores of written text against what should have been written, by the tools that papers use.

BLEU (Papineni et al. 2002) and chrF (Popovic 2015) are sacrebleu's, ROUGE (Lin 2004) is
rouge-score's, METEOR (Banerjee and Lavie 2005) is nltk's. Each has its signature, without which two
values cannot be compared (Post 2018), and a 95% interval by bootstrap over the pairs (Koehn 2004).
The packages are optional: requirements-text.txt.
"""

import contextlib
import importlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from types import ModuleType

import numpy as np

from research.errors import UserError
from research.evaluation import intervals
from research.evaluation.intervals import Estimate

RESAMPLES = 1000


def bleu(hypotheses: Sequence[str], references: Sequence[str], order: int = 4) -> Estimate:
    """BLEU of the corpus, 0 to 100, by sacrebleu's own tokens and runs of up to `order` of them."""
    return _sacre("BLEU", hypotheses, references, max_ngram_order=order)


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> Estimate:
    """chrF2 of the corpus, 0 to 100: the F-score of its runs of characters."""
    return _sacre("CHRF", hypotheses, references)


def rouge(hypotheses: Sequence[str], references: Sequence[str], kind: str = "rougeL") -> Estimate:
    """The mean F1, 0 to 1, of rouge1, rouge2, or rougeL, the longest common subsequence."""
    _check(hypotheses, references)
    scorer = _package("rouge_score.rouge_scorer").RougeScorer([kind], use_stemmer=False)
    pairs = zip(references, hypotheses, strict=True)
    found = [scorer.score(reference, hypothesis)[kind].fmeasure for reference, hypothesis in pairs]
    return _mean(found, f"{kind}|f1|stem:no|tok:rouge-score|version:{version('rouge-score')}")


def meteor(hypotheses: Sequence[str], references: Sequence[str]) -> Estimate:
    """The mean METEOR of pairs, 0 to 1, of words between blanks, with WordNet's synonyms.

    Raises:
        UserError: where nltk does not have WordNet on this machine.
    """
    _check(hypotheses, references)
    score = _package("nltk.translate.meteor_score").meteor_score
    if not has_wordnet():
        raise UserError(
            "METEOR needs WordNet, which nltk does not find on this machine: "
            "python -m nltk.downloader wordnet"
        )
    pairs = zip(references, hypotheses, strict=True)
    found = [score([reference.split()], hypothesis.split()) for reference, hypothesis in pairs]
    return _mean(found, f"meteor|tok:split|version:nltk {version('nltk')}")


def has_wordnet() -> bool:
    """Whether nltk is here and finds the synonyms that METEOR needs."""
    with contextlib.suppress(UserError, LookupError):
        _package("nltk").data.find("corpora/wordnet.zip")
        return True
    return False


def _sacre(
    name: str, hypotheses: Sequence[str], references: Sequence[str], **settings: int
) -> Estimate:
    """A score by sacrebleu; its own bootstrap, of fixed seed, says mean and half width."""
    _check(hypotheses, references)
    metric = getattr(_package("sacrebleu.metrics"), name)(**settings)
    whole = metric.corpus_score([*hypotheses], [[*references]], n_bootstrap=RESAMPLES)
    signature = f"{name.lower()}|{metric.get_signature()}"
    said = json.loads(whole.format(width=6, signature=str(metric.get_signature()), is_json=True))
    middle, half = (said.get(f"confidence_{key}", 0.0) for key in ("mean", "var"))  # none of 0
    return Estimate(whole.score, (middle - half, middle + half), len(hypotheses), signature)


def _mean(found: Sequence[float], signature: str) -> Estimate:
    each = intervals.bootstrap(np.asarray(found), resamples=RESAMPLES)
    return each._replace(signature=f"{signature}|bs:{RESAMPLES}|seed:0")


def check_installed() -> None:
    """Raise UserError where sacrebleu or rouge-score is missing."""
    for name in ("sacrebleu.metrics", "rouge_score.rouge_scorer"):
        _package(name)


def _check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    if not hypotheses or len(hypotheses) != len(references):
        raise UserError(
            f"{len(hypotheses)} hypotheses and {len(references)} references: as many are wanted of "
            "both, at least 1"
        )


def _package(name: str) -> ModuleType:
    """A module of an optional package.

    Raises:
        UserError: when it is not installed, with the command that does it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed; it is optional: pip install -r requirements-text.txt"
        ) from error
