"""For applications of a framework: what joins ayb-jobs to it, so that nobody has to write it."""
