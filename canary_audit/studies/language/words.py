"""Words that the experiments on language models share."""


def level_name(level: int) -> str:
    """Canaries of one number of insertions."""
    return f"inserted {level}x" if level else "never inserted"
