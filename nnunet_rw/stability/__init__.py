"""Which losses train stably."""
