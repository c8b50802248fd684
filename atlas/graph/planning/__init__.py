"""What building graphs will read, write and need."""
