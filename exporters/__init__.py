"""Where snapshots go out. An exporter shows what a snapshot holds; it computes nothing."""
