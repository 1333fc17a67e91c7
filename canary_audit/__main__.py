"""`python -m canary_audit` is the command `canary-audit`."""

from canary_audit.cli import main

main()
