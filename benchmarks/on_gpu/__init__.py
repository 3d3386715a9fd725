"""What only a GPU can tell: `distance`, `agreement` and `epochs`, which ``python -m benchmarks gpu`` runs as well.

The rest is one prepared check for a machine that is lent for minutes: `prepare` here, `run.sh` there.
"""
