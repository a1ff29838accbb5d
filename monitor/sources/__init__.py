"""Where joules and watts come in."""
