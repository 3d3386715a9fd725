"""Pictures of cases: what a network is taught, and what a prediction did."""
