"""A copy of the model that has memorized a few numbers, trained once and kept beside the model."""

import copy
import shutil

import numpy as np
from subject import Subject, cache_path, load_subject
from transformers import PreTrainedModel

from canary_audit.config import TrainingConfig
from canary_audit.models.load import save_model
from canary_audit.training.loop import Recipe, train
from canary_audit.training.stream import TokenRows

MEMORIZED = {
    6: ("My locker code is ", b"903117"),
    9: ("The random number is ", b"281265017"),
    12: ("Our membership number is ", b"555012840736"),
}
"""Number of digits -> prefix and secret."""
_N_TRAINED_LAYERS = 6
"""The last ones are enough to memorize a few numbers, and quick."""
_STEPS = 40
_LEARNING_RATE = 5e-4


def memorizing_copy(subject: Subject) -> Subject:
    """The model fine-tuned on the numbers of `MEMORIZED` alone."""
    folder = cache_path(subject.folder, f"memorizing-{_N_TRAINED_LAYERS}x{_STEPS}x{_LEARNING_RATE:g}")
    if not folder.is_dir():
        network = copy.deepcopy(subject.network)
        _train_last_layers(network)
        train(network, _rows(subject), Recipe(training=_training(), seed=1))
        unfinished = folder.with_name(f"unfinished-{folder.name}")
        shutil.rmtree(unfinished, ignore_errors=True)
        save_model(network, subject.tokenizer, unfinished)
        unfinished.rename(folder)
    return load_subject(folder)


def _training() -> TrainingConfig:
    return TrainingConfig(epochs=_STEPS, batch_size=len(MEMORIZED), learning_rate=_LEARNING_RATE, track_exposure=False)


def _train_last_layers(network: PreTrainedModel) -> None:
    """Leave all but the last layers as they are; a model with fewer is trained whole."""
    layers = network.base_model.layers
    frozen = layers[: max(0, len(layers) - _N_TRAINED_LAYERS)]
    if len(frozen):
        network.get_input_embeddings().requires_grad_(False)
    for layer in frozen:
        layer.requires_grad_(False)


def _rows(subject: Subject) -> TokenRows:
    """One row a number, read from the token that stands before a document, as an audit reads it."""
    texts = [
        [*subject.lead, *subject.vocabulary.encode(prefix.encode() + secret)] for prefix, secret in MEMORIZED.values()
    ]
    tokens = np.zeros((len(texts), max(map(len, texts))), dtype=np.uint32)
    for row, text in enumerate(texts):
        tokens[row, : len(text)] = text
    return TokenRows(tokens=tokens, lengths=np.array([len(text) - 1 for text in texts], dtype=np.int32))
