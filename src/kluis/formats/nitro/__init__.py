"""AWS Nitro structures, as the Nitro Security Module writes them."""
