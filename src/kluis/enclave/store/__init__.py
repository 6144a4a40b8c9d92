"""A sealed map that the host keeps: it sees neither keys nor values, and cannot change, mix or set back one."""
