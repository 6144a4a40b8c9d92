"""What evidence comes in: other people's headers, certificates and JSON around it. Nothing is verified."""
