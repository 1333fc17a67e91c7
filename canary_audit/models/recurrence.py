"""An LSTM whose gates are plain linear maps, so that the gradient of each single row can be had.

nn.LSTM runs in one fused kernel, from which no gradient by row comes out. Here the recurrence runs first, outside of
autograd. All pre-activations of the gates are then linear maps of things already known, the inputs and the hidden
states before each token. Backpropagation through time (Werbos 1990) is done by hand and ends at those pre-activations;
from there on autograd, and whoever takes gradients by row, sees two ordinary linear maps of sequences.

B rows of T tokens, hidden size H. Inside, tensors are time-major, so that the rows of one step lie together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class RowsApart:
    """In a `with` block, a `PerRowLstm` stands in for each nn.LSTM of a network, with the same weights.

    Outside of it the network is what it was: its names, files and scores do not change. The stand-ins stay the same
    from block to block, so hooks on them last.
    """

    def __init__(self, network: nn.Module) -> None:
        self._places = [
            (parent, name, module, PerRowLstm(module))
            for parent in network.modules()
            for name, module in parent.named_children()
            if isinstance(module, nn.LSTM)
        ]

    def __enter__(self) -> None:
        for parent, name, _, stand_in in self._places:
            setattr(parent, name, stand_in)

    def __exit__(self, *_why: object) -> None:
        for parent, name, lstm, _ in self._places:
            setattr(parent, name, lstm)


class PerRowLstm(nn.Module):
    """Computes what an nn.LSTM does, with that one's own weights, from an empty state.

    Products are taken in the type of the weights, under autocast too.

    Args:
        lstm: batch first, in one direction, with biases, without projections or dropout between layers.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(*weights) for weights in lstm.all_weights)

    def forward(self, inputs: Tensor, state: None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Inputs of shape (B, T, input_size) to outputs (B, T, H), and the state after them: hidden and cell, each
        (n_layers, B, H), constants for the gradients."""
        outputs, after = inputs, []
        with torch.autocast(inputs.device.type, enabled=False):
            for layer in self.layers:
                outputs, layer_after = layer(outputs)
                after.append(layer_after)
        hidden, cell = (torch.stack(parts) for parts in zip(*after, strict=True))
        return outputs, (hidden, cell)


class _Layer(nn.Module):
    """One layer. It owns no weight itself, or hooks that take gradients by row would take it for a linear map."""

    def __init__(
        self, weight_ih: nn.Parameter, weight_hh: nn.Parameter, bias_ih: nn.Parameter, bias_hh: nn.Parameter
    ) -> None:
        super().__init__()
        self.input_map = nn.Linear(weight_ih.shape[1], weight_ih.shape[0], device="meta")
        self.input_map.weight, self.input_map.bias = weight_ih, bias_ih
        self.hidden_map = HiddenMap(weight_hh, bias_hh)

    def forward(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        mapped = self.input_map(inputs)
        with torch.no_grad():
            run = _run(mapped, self.hidden_map.weight, self.hidden_map.bias)
        gates = self.hidden_map(run.hidden[:-1].transpose(0, 1), mapped)
        through_time: Callable[..., Tensor] = _BackThroughTime.apply
        return through_time(gates, run, self.hidden_map.weight), (run.hidden[-1], run.cells[-1])


class HiddenMap(nn.Module):
    """The linear map from the hidden states before each token to their share of the gates, added to that of the inputs.

    The recurrence has computed all values already. What this returns is a tensor of the right shape without content,
    there for the gradient that comes back to it.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias

    def forward(self, hidden_before: Tensor, mapped: Tensor) -> Tensor:
        """(B, T, H), which is taken for a constant, and (B, T, 4 H) to (B, T, 4 H)."""
        apply: Callable[..., Tensor] = _AddLinear.apply
        return apply(mapped, hidden_before, self.weight, self.bias)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What the recurrence went through."""

    gates: Tensor
    """Input, forget, candidate and output gate after their nonlinearities, shape (T, B, 4 H)."""
    cells: Tensor
    """Cell states, from the one before the first token on, shape (T + 1, B, H)."""
    squashed: Tensor
    """tanh of the cell states after each token, shape (T, B, H)."""
    hidden: Tensor
    """Hidden states, from the one before the first token on, shape (T + 1, B, H)."""


def _run(mapped: Tensor, weight_hh: Tensor, bias_hh: Tensor) -> _Run:
    """Run the recurrence on inputs already mapped, of shape (B, T, 4 H)."""
    size = weight_hh.shape[1]
    gates = (mapped.transpose(0, 1) + bias_hh).contiguous()
    cells = gates.new_empty(gates.shape[0] + 1, gates.shape[1], size)
    squashed, hidden = torch.empty_like(cells[1:]), torch.empty_like(cells)
    hidden[0] = cells[0] = 0.0
    weight = weight_hh.t()
    # Views are taken once for all steps, and every result lands where it is kept.
    into, forget, candidate, out = (gate.unbind() for gate in gates.chunk(4, dim=2))
    into_and_forget = gates[..., : 2 * size].unbind()
    cell, squash, state = cells.unbind(), squashed.unbind(), hidden.unbind()
    for step, gate in enumerate(gates.unbind()):
        gate.addmm_(state[step], weight)
        into_and_forget[step].sigmoid_()
        candidate[step].tanh_()
        out[step].sigmoid_()
        torch.mul(forget[step], cell[step], out=cell[step + 1]).addcmul_(into[step], candidate[step])
        torch.tanh(cell[step + 1], out=squash[step])
        torch.mul(out[step], squash[step], out=state[step + 1])
    return _Run(gates=gates, cells=cells, squashed=squashed, hidden=hidden)


class _AddLinear(torch.autograd.Function):
    """A tensor plus a linear map of a constant, for the gradients alone."""

    @staticmethod
    def forward(ctx: Any, mapped: Tensor, constant: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(constant)
        return mapped.new_empty(()).expand(mapped.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (constant,) = ctx.saved_tensors
        flat = gradient.flatten(0, 1)
        return gradient, None, flat.t() @ constant.flatten(0, 1), flat.sum(0)


class _BackThroughTime(torch.autograd.Function):
    """From pre-activations, whose values are not needed any more, to the hidden states known already."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, run: _Run, weight_hh: Tensor) -> Tensor:
        ctx.save_for_backward(run.gates, run.cells, run.squashed, weight_hh)
        return run.hidden[1:].transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        d_gates = _back_through_time(gradient.transpose(0, 1), *ctx.saved_tensors)
        return d_gates.transpose(0, 1).contiguous(), None, None


def _back_through_time(gradient: Tensor, gates: Tensor, cells: Tensor, squashed: Tensor, weight_hh: Tensor) -> Tensor:
    """Gradient of the pre-activations, shape (T, B, 4 H), from that of the outputs, shape (T, B, H)."""
    into, forget, candidate, out = gates.chunk(4, dim=2)
    d_gates = torch.empty_like(gates)
    d_into, d_forget, d_candidate, d_out = d_gates.chunk(4, dim=2)
    # The local derivatives, for all steps at once. The first three wait for the gradient of their step's cell state,
    # the last for that of its hidden state.
    torch.mul(candidate, into * (1 - into), out=d_into)
    torch.mul(cells[:-1], forget * (1 - forget), out=d_forget)
    torch.mul(into, 1 - candidate * candidate, out=d_candidate)
    torch.mul(squashed, out * (1 - out), out=d_out)
    cell_by_hidden = (out * (1 - squashed * squashed)).unbind()
    d_hidden = gradient.clone(memory_format=torch.contiguous_format).unbind()
    d_cell = torch.zeros_like(squashed[0])
    by_cell = d_gates.view(*gates.shape[:2], 4, -1)[:, :, :3].unbind()
    by_hidden, d_gate, kept = d_out.unbind(), d_gates.unbind(), forget.unbind()
    last = len(d_gate) - 1
    for step in range(last, -1, -1):
        if step < last:
            d_hidden[step].addmm_(d_gate[step + 1], weight_hh)
            d_cell.mul_(kept[step + 1])
        d_cell.addcmul_(d_hidden[step], cell_by_hidden[step])
        by_cell[step].mul_(d_cell[:, None])
        by_hidden[step].mul_(d_hidden[step])
    return d_gates
