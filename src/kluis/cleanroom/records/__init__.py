"""What is stored: a party's own folder, with whom it trusts, and the room's folder that the parties share."""
