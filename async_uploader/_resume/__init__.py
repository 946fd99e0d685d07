"""What is known of earlier runs: the journal, its worker, and the resume points of a source."""
