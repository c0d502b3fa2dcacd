"""The checks, each of which raises `Lacking` where it sees something else."""
