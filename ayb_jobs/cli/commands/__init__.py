"""The commands, imported when they are asked for."""
