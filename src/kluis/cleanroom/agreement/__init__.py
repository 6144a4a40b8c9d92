"""What the parties of a room sign and exchange: agreement, terms, messages, and their keys."""
