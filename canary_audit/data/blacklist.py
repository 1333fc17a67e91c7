"""A blacklist: documents that match one of its regular expressions are not trained on.

It takes out the secrets somebody thought of, and no others (Carlini et al. 2019, section 9.2).
"""

import re
from collections.abc import Callable, Iterator, Sequence


def matcher(blacklist: Sequence[str]) -> Callable[[str], bool]:
    """Whether a document is on the list: whether any of the expressions matches anywhere in it."""
    expressions = [re.compile(expression) for expression in blacklist]
    return lambda document: any(expression.search(document) for expression in expressions)


def without_listed(documents: Iterator[str], blacklist: Sequence[str]) -> Iterator[str]:
    """The documents that are not on the list, in order."""
    if not blacklist:
        return documents
    is_listed = matcher(blacklist)
    return (document for document in documents if not is_listed(document))
