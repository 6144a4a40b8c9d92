"""What evidence comes in: taken off before it is verified, and compared with it afterwards."""
