"""Which runs are alive and what they hold and use, and the socket over which they and operators tell us."""
