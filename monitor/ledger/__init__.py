"""What must survive: the joules of every run by bucket of time, and the count itself. SQLite, one file, one writer."""
