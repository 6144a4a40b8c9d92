"""What an operator observes: metrics of every instance and their sums, and traces of requests; no content."""
