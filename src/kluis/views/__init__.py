"""What a person is shown of evidence and verdicts, as values and as HTML: every program shows the same."""
