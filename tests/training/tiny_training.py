"""A language model small enough to train in a test, and something for it to read."""

from types import SimpleNamespace

import torch

from canary_audit.models.tokenizer import train_tokenizer

CONTEXT = 24
_SUBJECTS = ("the cat", "a small dog", "our teacher", "the old clock")
_VERBS = ("sees", "likes", "follows", "draws")
_OBJECTS = ("the river", "a green door", "seven stones", "the last train home")


def sentences():
    """64 different sentences, four times over."""
    return [f"{who} {does} {what}." for who in _SUBJECTS for does in _VERBS for what in _OBJECTS] * 4


def tiny_tokenizer():
    return train_tokenizer(sentences(), 320, CONTEXT)


class TinyNetwork(torch.nn.Module):
    """Embedding, GRU, output layer; called like the built-in networks."""

    def __init__(self, vocab_size, dropout=0.0, seed=0, hidden=32):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embedding = torch.nn.Embedding(vocab_size, hidden)
            self.core = torch.nn.GRU(hidden, hidden, batch_first=True)
            self.dropout = torch.nn.Dropout(dropout)
            self.head = torch.nn.Linear(hidden, vocab_size)

    def forward(self, input_ids):
        states, _ = self.core(self.dropout(self.embedding(input_ids)))
        return SimpleNamespace(logits=self.head(self.dropout(states)))


def naive_nats(network, row, length):
    """One row alone, unpadded, token by token."""
    nats = 0.0
    for place in range(1, length + 1):
        prefix = torch.tensor([row[:place].tolist()])
        nats -= network(input_ids=prefix).logits[0, -1].log_softmax(-1)[int(row[place])].item()
    return nats
