"""Studies: several trainings, compared. Each begins in the module of its name; `cli.py` has one verb for each."""
