"""Untrusted text made safe to show: model names, prefixes, corpus paths and whatever else a stranger may have written.

Every format passes its text through `sanitize` and then escapes it for its own syntax. What cannot be seen is made
visible instead of being dropped: an invisible character in a prefix is something an auditor wants to notice.
"""

import re
import unicodedata

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories shown as escapes: controls, format (bidirectional overrides among them), surrogates, line ends."""

_COMMAND = re.compile(r":(?=:)|#(?=#\w*\[)")
"""Workflow commands of CI systems, `::name::` and `##name[...]`. A terminal may wrap a line anywhere, so they are
broken up wherever they stand and not only at the beginning of a line."""


_JSON_COMMAND = re.compile(f"{_COMMAND.pattern}|\x7f")
"""JSON writers escape every control character but DEL. Neither pattern occurs outside a JSON string."""


def sanitize(text: str) -> str:
    r"""`text` on one line, with every invisible character written out as `\n`, `\x1b`, `\u202e` or `\U000e0041`.

    Example:
        >>> sanitize("a\x1b[31mb")
        'a\\x1b[31mb'
        >>> sanitize("::add-mask::x")
        '\\x3a:add-mask\\x3a:x'
    """
    visible = "".join(_escape(char) if unicodedata.category(char) in _INVISIBLE else char for char in text)
    return _COMMAND.sub(lambda match: _escape(match[0]), visible)


def sanitize_json(text: str) -> str:
    """JSON that parses to the same value and in which no CI command stands; most results come back as they are."""
    return _JSON_COMMAND.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escape(char: str) -> str:
    if char == "\n":
        return r"\n"
    if char == "\t":
        return r"\t"
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
