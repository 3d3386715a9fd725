"""Speed and memory, side by side in one process. `python -m benchmarks` runs them; results/ holds what was measured."""
