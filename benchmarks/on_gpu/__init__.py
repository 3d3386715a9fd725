"""What only a GPU can tell, prepared for a machine that is lent for minutes: `prepare` here, `run.sh` there."""
