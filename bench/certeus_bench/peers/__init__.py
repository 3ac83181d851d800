"""Other systems that do the same work, each measured as its own makers would have it run."""
