"""Compare losses: plan, train, evaluate."""
