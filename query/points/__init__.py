"""What lies in a place beside cells: transcripts, shapes, images, label images."""
