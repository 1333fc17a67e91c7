"""Critical tokens: a small change of the input embeddings flips the token that the network predicts next.

Arpit et al. 2017, section 4.4, ask this of images. Tokens cannot be changed a little, so here the network's own input
embeddings are: every entry of every token that was read may move by a share of the root mean square of the embedding
table's entries. Finding such a change proves that a token is critical; not finding one proves nothing, so shares of
critical tokens are lower bounds.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

_STEP: Final = 0.25 / 0.3
_NOISE: Final = 0.2 / 0.3
"""Both in units of the radius: the paper's alpha, beta and r are .25, .2 and .3."""
_LOGITS_PER_BATCH: Final = 1 << 26
"""A quarter of a gigabyte in fp32, and as much for their gradient."""


def critical_radii(
    network: Any, contexts: Sequence[Sequence[int]], radii: Sequence[float], *, steps: int = 10, seed: int = 0
) -> NDArray[np.float64]:
    """The least of the given radii at which the next token after each context flips, by Langevin adversarial search.

    A box holds every smaller one, so what flips at a radius counts as flipped at all larger ones and is not searched
    again. Every search starts from the unchanged embeddings; the steps at random are the same for the same seed.

    Args:
        network: a causal transformers model in evaluation mode; it is left as it was.
        contexts: tokens read, at least one each.
        radii: ascending, in units of the root mean square of the embedding table's entries.
        steps: of one search, at most; each ends when the token has flipped.

    Returns:
        Shape (n_contexts,); infinity where no radius sufficed.
    """
    found = np.full(len(contexts), np.inf)
    scale = float(network.get_input_embeddings().weight.detach().float().square().mean().sqrt())
    generator = torch.Generator().manual_seed(seed)
    with _differentiable(network):
        for batch in _batches(network, contexts):
            tokens, last = _padded([contexts[place] for place in batch], network.device)
            given = _last_logits(network, tokens, last).argmax(dim=-1)
            for radius in radii:
                left = np.flatnonzero(np.isinf(found[batch]))
                if not len(left):
                    break
                rows = torch.from_numpy(left).to(tokens.device)
                flipped = _flipped(network, tokens[rows], last[rows], given[rows], radius * scale, steps, generator)
                found[batch[left[flipped]]] = radius
    return found


def _flipped(
    network: Any, tokens: Tensor, last: Tensor, given: Tensor, radius: float, steps: int, generator: torch.Generator
) -> NDArray[np.bool_]:
    """Which rows predict another token than the given one somewhere in their boxes; shape (n_rows,).

    A row walks up the gradient of the loss of its own prediction, by the sign of each entry, with a step at random
    added, and is put back into its box. Padding is moved too, behind everything that is asked about.
    """
    size = network.get_input_embeddings().weight.shape[1]
    walk = torch.zeros(*tokens.shape, size, device=tokens.device)
    critical = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
    for step in range(steps + 1):
        rows = (~critical).nonzero()[:, 0]
        if not len(rows):
            break
        here = walk[rows].requires_grad_()
        logits = _last_logits(network, tokens[rows], last[rows], here)
        critical[rows] = logits.argmax(dim=-1) != given[rows]  # where the step before has led
        if step < steps:
            (gradient,) = torch.autograd.grad(functional.cross_entropy(logits, given[rows], reduction="sum"), here)
            noise = torch.randn(walk.shape, generator=generator)[rows.cpu()].to(walk.device)
            moved = here.detach() + radius * (_STEP * gradient.sign() + _NOISE * noise)
            walk[rows] = moved.clamp(-radius, radius)
    return critical.cpu().numpy()


def _last_logits(network: Any, tokens: Tensor, last: Tensor, change: Tensor | None = None) -> Tensor:
    """Logits after each row's last token, shape (n_rows, vocab_size), with `change` added to what is embedded."""
    with _moved_embeddings(network.get_input_embeddings(), change):
        logits: Tensor = network(input_ids=tokens).logits
    return logits[torch.arange(len(tokens), device=tokens.device), last].float()


@contextmanager
def _moved_embeddings(embedding: nn.Module, change: Tensor | None) -> Iterator[None]:
    def move(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        return output if change is None else output + change.to(output.dtype)

    handle = embedding.register_forward_hook(move)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _differentiable(network: nn.Module) -> Iterator[None]:
    """Only the change of the embeddings gets a gradient; cuDNN would refuse one through an LSTM that is evaluated."""
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    with ExitStack() as stack:
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        for weight in trained:
            stack.callback(weight.requires_grad_, True)
            weight.requires_grad_(False)
        yield


def _batches(network: Any, contexts: Sequence[Sequence[int]]) -> Iterator[NDArray[np.int64]]:
    """Places of contexts to be read together, in their order."""
    width = max(map(len, contexts), default=1)
    vocab_size = network.config.get_text_config(decoder=True).vocab_size
    n_rows = max(1, _LOGITS_PER_BATCH // (vocab_size * width))
    for start in range(0, len(contexts), n_rows):
        yield np.arange(start, min(start + n_rows, len(contexts)))


def _padded(contexts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens padded on the right, which causal networks do not see, and the place of each row's last token."""
    cells = np.zeros((len(contexts), max(map(len, contexts))), dtype=np.int64)
    for row, context in zip(cells, contexts, strict=True):
        row[: len(context)] = context
    last = torch.tensor([len(context) - 1 for context in contexts], device=device)
    return torch.from_numpy(cells).to(device), last
