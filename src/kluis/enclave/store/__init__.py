"""A sealed map that the host keeps: it sees neither keys nor values, and cannot change or set back one."""
