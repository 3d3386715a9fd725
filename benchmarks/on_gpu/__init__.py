"""One prepared check on a machine with a GPU: `prepare` here, `run.sh` there."""
