"""What a dataset's lesions are like, and which of them a loss would hear, before anyone trains."""
