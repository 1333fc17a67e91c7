"""canary_audit: does your language model give away secrets it was trained on?"""

__version__ = "0.1.0"
