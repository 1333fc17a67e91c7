"""Any model, with word of how much it has been asked."""

from collections.abc import Callable, Sequence
from typing import Any

from canary_audit.models.interface import Children, FloatArray, IntArray, LanguageModel, Unseen, WindowedModel
from canary_audit.models.windowed import windowed


def watched(model: LanguageModel, on_nodes: Callable[[int], None]) -> LanguageModel:
    """`model`, watched; a windowed model stays one, and no other becomes one."""
    window = windowed(model)
    return WatchedModel(model, on_nodes) if window is None else WatchedWindow(window, on_nodes)


class WatchedModel:
    """Passes calls on to `model`, and tells `on_nodes` after each how many prefixes it has been asked about in all."""

    def __init__(self, model: LanguageModel, on_nodes: Callable[[int], None]) -> None:
        self._model = model
        self._on_nodes = on_nodes
        self._nodes = 0

    def root(self, prompt: Sequence[int], children: Children) -> tuple[Any, FloatArray]:
        """See `LanguageModel.root`."""
        answer = self._model.root(prompt, children)
        self._tell(1)
        return answer

    def step(self, state: Any, parents: IntArray, tokens: IntArray, children: Children) -> tuple[Any, FloatArray]:
        """See `LanguageModel.step`."""
        answer = self._model.step(state, parents, tokens, children)
        self._tell(len(parents))
        return answer

    def _tell(self, n_nodes: int) -> None:
        self._nodes += n_nodes
        self._on_nodes(self._nodes)


class WatchedWindow(WatchedModel):
    """The same of a windowed model."""

    def __init__(self, model: WindowedModel, on_nodes: Callable[[int], None]) -> None:
        super().__init__(model, on_nodes)
        self._window = model

    def unseen(self, state: Any) -> Unseen:
        """See `WindowedModel.unseen`."""
        return self._window.unseen(state)
