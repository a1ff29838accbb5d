"""Stand-ins for the hardware trainwatt reads, with their truth: what they show is known in closed form."""
