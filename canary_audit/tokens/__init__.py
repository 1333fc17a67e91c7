"""Secret spaces as trees of tokens: edges are tokens, leaves are secrets.

`canonical.py` walks a whole space lazily, `trie.py` an explicit set of secrets; both are a `TokenWalk` (`walk.py`).
"""
