"""Beside the stairs: programs that use the floors.  Nothing imports them but the command line."""
