"""What a dataset's lesions are like, and which of them dominate a loss's gradient, before anyone trains."""
