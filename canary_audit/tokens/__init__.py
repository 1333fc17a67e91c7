"""Secret spaces as trees of tokens: edges are tokens, leaves are secrets.

`choose.py` makes the tree of a whole space (`SecretWalk`): `canonical.py` walks it lazily where pairs of adjacent
tokens decide what the tokenizer gives, `enumerated.py` writes it out where they do not. `trie.py` is the tree of an
explicit set of secrets (`TokenWalk`). Under `canonical.py` lie `merging.py` and `splits.py` (what happens between two
tokens), `pairs.py` (all pairs at once), `text.py` and `lattice.py` (which tokens may stand where), `counting.py` (how
many paths there are) and `tree.py` (their product).
"""
