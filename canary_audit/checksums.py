"""Check digits as finite automata."""

from canary_audit.automata import Checksum

_IBAN_MODULUS = 97


def _luhn_step(sums: tuple[int, int], byte: int) -> tuple[int, int]:
    undoubled, doubled = sums
    digit = byte - ord("0")
    # Every second digit from the right is doubled, and the digits of the product are added up.
    return (doubled + digit) % 10, (undoubled + sum(divmod(2 * digit, 10))) % 10


LUHN = Checksum(start=(0, 0), step=_luhn_step, accepts=lambda sums: sums[0] == 0)
"""Luhn's check digit (ISO/IEC 7812-1): sums modulo 10 if the digit just read is the last one, or the last but one."""


def iban_checksum(body: str) -> Checksum[tuple[int, int]]:
    """ISO 13616 (modulo 97) for account numbers whose `body` after country and check digits is such as `aaaannnn`.

    `a` is a letter and counts as two digits, `n` is a digit. The first four characters move to the end of the number.
    """
    weights: list[int] = []
    weight = 1
    for kind in reversed(body + "aann"):
        weights.append(weight)
        weight = weight * (100 if kind == "a" else 10) % _IBAN_MODULUS
    weights = weights[3::-1] + weights[:3:-1]

    def step(state: tuple[int, int], byte: int) -> tuple[int, int]:
        n_read, residue = state
        value = int(chr(byte), 36)
        return n_read + 1, (residue + value * weights[n_read]) % _IBAN_MODULUS

    return Checksum(start=(0, 0), step=step, accepts=lambda state: state[1] == 1)
