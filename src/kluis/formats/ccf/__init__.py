"""The Confidential Consortium Framework's files and receipts: bytes to values and back."""
